"""Optuna's samplers, asked for a whole generation at once."""

from __future__ import annotations

import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.trial import TrialState

from tftas_optuna.samplers import (
    PREDICTED,
    SCREENED,
    WINDOW,
    Archive,
    Breeding,
    Problem,
    Screen,
    agreement,
    generation_label,
    make_sampler,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial

    from tftas_optuna.metrics import Direction
    from tftas_optuna.samplers import Child, Knowledge


class Bred(NamedTuple):
    """What a sampler gives.

    Attributes:
        params: Parameters of a trial.
        labels: System attributes that say how they came about.
    """

    params: dict[str, Any]
    labels: dict[str, Any]


class Litter(Protocol):
    """The parameters of one generation, asked for one after the other."""

    def ask(self, distributions: dict[str, Any]) -> Bred:
        """Ask the sampler for parameters."""

    def close(self) -> None:
        """Ask for no more; what was tried of them comes back as newcomers."""


class Breeder(Protocol):
    """Asks an Optuna sampler for generations.

    Attributes:
        label: System attribute by which the sampler knows a trial's generation, if it has one.
    """

    label: str | None

    def breed(self, newcomers: Iterable[FrozenTrial], seed: int, size: int) -> Litter:
        """Choose the parents of the next generation.

        Args:
            newcomers: Trials that finished since the last one.
            seed: Seed of its randomness.
            size: Its trials.
        """


def make_breeder(
    directions: Sequence[Direction],
    sampler: str | BaseSampler,
    population_size: int,
    distributions: Mapping[str, BaseDistribution],
    knowledge: Knowledge,
) -> Breeder:
    """Choose how to ask a sampler.

    Args:
        directions: What is better of each objective.
        sampler: Its name, or the sampler itself.
        population_size: Trials of one generation.
        distributions: The parameters.
        knowledge: What can be told of parameters without a trial.
    """
    if sampler == SCREENED:
        return _Screened(Problem(distributions, directions, knowledge), population_size)
    if isinstance(sampler, str):
        genetic = isinstance(make_sampler(sampler, population_size, 0), BaseGASampler)
        if genetic:
            return _Generations(directions, sampler, population_size)
    return _History(directions, sampler, population_size)


class _Generations:
    """A genetic sampler in a study that holds only what may become a parent.

    Optuna looks through all trials for every one it asks. Its selection, though, depends on the
    parents so far and on what came since: with those as the first generation of a small study,
    its next generation is the one that is wanted, at a cost that never grows.
    """

    def __init__(self, directions: Sequence[Direction], name: str, population_size: int) -> None:
        self.label = generation_label(make_sampler(name, population_size, 0))
        self._directions = list(directions)
        self._name = name
        self._population_size = population_size
        self._parents: list[FrozenTrial] = []

    def breed(self, newcomers: Iterable[FrozenTrial], seed: int, size: int) -> Litter:
        sampler = make_sampler(self._name, self._population_size, seed)
        assert isinstance(sampler, BaseGASampler)
        with _silence():
            study = optuna.create_study(directions=self._directions, sampler=sampler)
        pool = [*self._parents, *(trial for trial in newcomers if trial.values is not None)]
        study.add_trials(self._first_generation(trial) for trial in pool)
        if pool:
            chosen = {trial.number for trial in sampler.get_parent_population(study, 1)}
            self._parents = [trial for i, trial in enumerate(pool) if i in chosen]
        return _GeneticLitter(study, sampler)

    def _first_generation(self, trial: FrozenTrial) -> FrozenTrial:
        assert self.label is not None
        return optuna.create_trial(
            params=trial.params,
            distributions=trial.distributions,
            values=trial.values,
            system_attrs={**trial.system_attrs, self.label: 0},
        )


class _GeneticLitter:
    def __init__(self, study: Study, sampler: BaseGASampler) -> None:
        # One trial stands for all that are asked: the sampler needs its generation, and a trial
        # for each would be written down parameter by parameter.
        study.ask()
        sampler.get_trial_generation(study, study.get_trials(deepcopy=False)[-1])
        self._carrier = study.get_trials(deepcopy=False)[-1]
        self._shared = sampler.infer_relative_search_space(study, self._carrier)
        self._study, self._sampler = study, sampler

    def ask(self, distributions: dict[str, BaseDistribution]) -> Bred:
        sampler, study, trial = self._sampler, self._study, self._carrier
        bred = sampler.sample_relative(study, trial, self._shared)
        params = {
            name: bred[name]
            if name in bred
            else sampler.sample_independent(study, trial, name, distribution)
            for name, distribution in distributions.items()
        }
        return Bred(params, {})

    def close(self) -> None:
        pass


class _Screened:
    """NSGA-II with a screen, which chooses a whole generation at once.

    Nothing is computed before a generation is asked for, so that a search that goes on need not
    live through those before.
    """

    def __init__(self, problem: Problem, population_size: int) -> None:
        self.label = generation_label(make_sampler(SCREENED, population_size, 0))
        self._archive = Archive(problem)
        self._breeding = Breeding(population_size=population_size)
        self._newcomers: list[FrozenTrial] = []
        self._recent: deque[FrozenTrial] = deque(maxlen=WINDOW)

    def breed(self, newcomers: Iterable[FrozenTrial], seed: int, size: int) -> Litter:
        newcomers = list(newcomers)
        self._newcomers += newcomers
        self._recent.extend(newcomers)
        return _ScreenedLitter(partial(self._screen, seed), size)

    def _screen(self, seed: int) -> Screen:
        self._archive.add(self._newcomers)
        self._newcomers = []
        rng = np.random.default_rng(seed)
        return Screen(self._archive, self._breeding, agreement(self._recent), rng)


class _ScreenedLitter:
    def __init__(self, make: Callable[[], Screen], count: int) -> None:
        self._make = make
        self._count = count
        self._screen: Screen | None = None
        self._waiting: deque[Child] = deque()

    def ask(self, distributions: dict[str, BaseDistribution]) -> Bred:
        if self._screen is None:
            self._screen = self._make()
        if not self._waiting:
            self._waiting.extend(self._screen.choose(self._count))
        child = self._waiting.popleft() if self._waiting else self._screen.draw()
        labels = {} if child.predicted is None else {PREDICTED: child.predicted}
        return Bred(child.params, labels)

    def close(self) -> None:
        pass


class _History:
    """Any other sampler, in a study that holds all trials."""

    def __init__(
        self, directions: Sequence[Direction], sampler: str | BaseSampler, population_size: int
    ) -> None:
        self.label = None if isinstance(sampler, str) else generation_label(sampler)
        with _silence():
            self._study = optuna.create_study(directions=list(directions))
        self._sampler = sampler
        self._population_size = population_size

    def breed(self, newcomers: Iterable[FrozenTrial], seed: int, size: int) -> Litter:
        self._study.add_trials(newcomers)
        sampler = self._sampler
        if isinstance(sampler, str):
            sampler = make_sampler(sampler, self._population_size, seed)
        self._study.sampler = sampler
        return _AskedLitter(self._study)


class _AskedLitter:
    def __init__(self, study: Study) -> None:
        self._study = study
        self._asked: list[Trial] = []

    def ask(self, distributions: dict[str, BaseDistribution]) -> Bred:
        self._asked.append(self._study.ask(fixed_distributions=dict(distributions)))
        return Bred(self._asked[-1].params, {})

    def close(self) -> None:
        for trial in self._asked:
            self._study.tell(trial, state=TrialState.FAIL)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep Optuna from announcing studies that nobody else will see."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
