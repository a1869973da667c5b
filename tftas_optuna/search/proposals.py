"""What a generation tries: offspring of the best so far, none twice, all within the bounds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.trial import TrialState

from tftas_optuna.samplers import generation_seeds, make_sampler
from tftas_optuna.study.place import REPEAT_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from optuna.trial import FrozenTrial, Trial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.study.settings import StudySettings

_ASKS = 4
_WALKS = 12
_STEPS = 25

Origin = Literal["start", "offspring", "replaced", "repeat"]


class Proposal(NamedTuple):
    """One trial to be.

    Attributes:
        params: Its Optuna parameters.
        architecture: What they mean.
        labels: System attributes: the one by which Optuna's genetic samplers know its generation,
            and the mark of a repeat.
        origin: ``"start"`` for an architecture to start from, ``"offspring"`` for what the
            sampler gave, ``"replaced"`` where that was tried already or out of bounds, and
            ``"repeat"`` where nothing new was found.
    """

    params: dict[str, Any]
    architecture: Architecture
    labels: dict[str, Any]
    origin: Origin


class Proposer:
    """Proposes generation after generation.

    A generation depends on the seed, its number and the trials learned, on nothing else.

    Args:
        settings: What is searched.
        sampler: A name, or a sampler object, whose own randomness then runs on.
        population_size: Proposals of a generation.
        island: Number of this search within its study.
        start: Architectures to try first.
    """

    def __init__(
        self,
        settings: StudySettings,
        sampler: str | BaseSampler,
        population_size: int,
        island: int,
        start: Sequence[Architecture] = (),
    ) -> None:
        self._settings = settings
        self._space = settings.space
        self._distributions = settings.space.distributions()
        self._population_size = population_size
        self._island = island
        self._start = [(settings.space.encode(arch), arch) for arch in start]
        self._breeder = _breeder(settings, sampler, population_size)

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Take in finished trials; call :meth:`begin` for every generation in between."""
        self._breeder.learn(trials)

    def begin(self, generation: int) -> None:
        """Choose the parents of a generation."""
        self._sampler_seed, mutation_seed = generation_seeds(
            self._settings.seed, self._island, generation
        )
        self._rng = np.random.default_rng(mutation_seed)
        self._breeder.begin(generation, self._sampler_seed)

    def propose(self, generation: int, known: Collection[Architecture]) -> list[Proposal]:
        """Propose a whole generation.

        Args:
            generation: Its number; :meth:`begin` was called for it.
            known: Architectures that the study has already.
        """
        tried = set(known)
        proposals: list[Proposal] = []
        while len(proposals) < self._population_size:
            proposal = self._next(generation, tried)
            tried.add(proposal.architecture)
            proposals.append(proposal)
        self._breeder.close()
        return proposals

    def _next(self, generation: int, tried: set[Architecture]) -> Proposal:
        labels = self._labels(generation)
        for params, arch in self._start:
            if arch not in tried:
                return Proposal(params, arch, labels, "start")
        first = params = self._breeder.ask(self._distributions)
        for attempt in range(_ASKS):
            arch = self._space.decode(params)
            if arch not in tried and not self._excess(arch):
                return Proposal(params, arch, labels, "replaced" if attempt else "offspring")
            params = self._breeder.ask(self._distributions)
        mutated = self._mutate(first, tried)
        if mutated is not None:
            return Proposal(*mutated, labels, "replaced")
        arch = self._space.decode(first)
        if arch not in tried:
            return Proposal(first, arch, labels, "offspring")
        return Proposal(first, arch, {**labels, REPEAT_KEY: True}, "repeat")

    def _labels(self, generation: int) -> dict[str, Any]:
        label = self._breeder.label
        return {} if label is None else {label: generation}

    def _excess(self, arch: Architecture) -> float:
        """Sum of what an architecture exceeds the bounds by."""
        return sum(max(value, 0.0) for value in self._settings.violations(arch).values())

    def _mutate(
        self, rejected: dict[str, Any], tried: set[Architecture]
    ) -> tuple[dict[str, Any], Architecture] | None:
        """Walk from a rejected proposal, downhill into the bounds, to something new.

        A walk that ends at something known, or nowhere, is followed by another that starts with
        some random steps more.
        """
        for walk in range(_WALKS):
            params, excess = rejected, float("inf")
            for step in range(_STEPS):
                changed = self._change(params)
                arch = self._space.decode(changed)
                found = self._excess(arch)
                if found > excess and step >= walk % _STEPS:
                    continue
                params, excess = changed, found
                if not found and arch not in tried:
                    return params, arch
        return None

    def _change(self, params: dict[str, Any]) -> dict[str, Any]:
        """Draw one parameter anew."""
        names = list(params)
        name = names[self._rng.integers(len(names))]
        return {**params, name: self._space.encode(self._space.sample(self._rng))[name]}


class _Breeder(Protocol):
    """Asks an Optuna sampler for parameters.

    Attributes:
        label: System attribute by which the sampler knows a trial's generation, if it has one.
    """

    label: str | None

    def learn(self, trials: Iterable[FrozenTrial]) -> None: ...

    def begin(self, generation: int, seed: int) -> None: ...

    def ask(self, distributions: dict[str, Any]) -> dict[str, Any]: ...

    def close(self) -> None: ...


def _breeder(
    settings: StudySettings, sampler: str | BaseSampler, population_size: int
) -> _Breeder:
    if isinstance(sampler, str):
        genetic = isinstance(make_sampler(sampler, population_size, 0), BaseGASampler)
        if genetic:
            return _Generations(settings, sampler, population_size)
    return _History(settings, sampler, population_size)


class _Generations:
    """A genetic sampler in a study that holds only what may become a parent.

    Optuna looks through all trials for every one it asks. Its selection, though, depends on the
    parents so far and on what came since: with those as the first generation of a small study,
    its next generation is the one that is wanted, at a cost that never grows.
    """

    def __init__(self, settings: StudySettings, name: str, population_size: int) -> None:
        self.label = _label(make_sampler(name, population_size, 0))
        self._directions = settings.directions
        self._name = name
        self._population_size = population_size
        self._parents: list[FrozenTrial] = []
        self._newcomers: list[FrozenTrial] = []

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        self._newcomers.extend(trials)

    def begin(self, generation: int, seed: int) -> None:
        sampler = make_sampler(self._name, self._population_size, seed)
        assert isinstance(sampler, BaseGASampler)
        with _silence():
            study = optuna.create_study(directions=self._directions, sampler=sampler)
        pool = self._parents + self._newcomers
        study.add_trials(self._first_generation(trial) for trial in pool)
        if pool:
            chosen = {trial.number for trial in sampler.get_parent_population(study, 1)}
            self._parents = [trial for i, trial in enumerate(pool) if i in chosen]
            self._newcomers = []
        # One trial stands for all that are asked: the sampler needs its generation, and a trial
        # of their own for each would be written down parameter by parameter.
        study.ask()
        sampler.get_trial_generation(study, study.get_trials(deepcopy=False)[-1])
        self._carrier = study.get_trials(deepcopy=False)[-1]
        self._shared = sampler.infer_relative_search_space(study, self._carrier)
        self._study, self._sampler = study, sampler

    def ask(self, distributions: dict[str, Any]) -> dict[str, Any]:
        sampler, study, trial = self._sampler, self._study, self._carrier
        bred = sampler.sample_relative(study, trial, self._shared)
        return {
            name: bred[name]
            if name in bred
            else sampler.sample_independent(study, trial, name, distribution)
            for name, distribution in distributions.items()
        }

    def close(self) -> None:
        pass

    def _first_generation(self, trial: FrozenTrial) -> FrozenTrial:
        assert self.label is not None
        return optuna.create_trial(
            params=trial.params,
            distributions=trial.distributions,
            values=trial.values,
            system_attrs={**trial.system_attrs, self.label: 0},
        )


class _History:
    """Any other sampler, in a study that holds all trials."""

    def __init__(
        self, settings: StudySettings, sampler: str | BaseSampler, population_size: int
    ) -> None:
        self.label = None if isinstance(sampler, str) else _label(sampler)
        with _silence():
            self._study = optuna.create_study(directions=settings.directions)
        self._sampler = sampler
        self._population_size = population_size
        self._asked: list[Trial] = []

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        self._study.add_trials(trials)

    def begin(self, generation: int, seed: int) -> None:
        sampler = self._sampler
        if isinstance(sampler, str):
            sampler = make_sampler(sampler, self._population_size, seed)
        self._study.sampler = sampler

    def ask(self, distributions: dict[str, Any]) -> dict[str, Any]:
        self._asked.append(self._study.ask(fixed_distributions=dict(distributions)))
        return self._asked[-1].params

    def close(self) -> None:
        """Forget what was asked; the trials come back through :meth:`learn`."""
        for trial in self._asked:
            self._study.tell(trial, state=TrialState.FAIL)
        self._asked = []


def _label(sampler: BaseSampler) -> str | None:
    genetic = isinstance(sampler, BaseGASampler)
    return f"{type(sampler).__name__}:generation" if genetic else None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep Optuna from announcing studies that nobody else will see."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
