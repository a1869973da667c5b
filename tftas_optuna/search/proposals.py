"""What a generation tries: children of the best so far, none twice, all within the bounds."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import optuna
from optuna.trial import TrialState

from tftas_optuna.metrics import violations
from tftas_optuna.samplers import SCREENED, generation_seeds, generation_sizes, make_strategy
from tftas_optuna.study.knowledge import ArchitectureKnowledge
from tftas_optuna.study.own import FAILURE_KEY
from tftas_optuna.study.place import PLACE_KEY, REPEAT_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meters
    from tftas_optuna.samplers import Child
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.study.evaluations import Evaluation
    from tftas_optuna.study.place import Place
    from tftas_optuna.study.settings import StudySettings

# Children to ask for until one is new and within the bounds; then walks from the first, and steps.
_ASKS = 4
_WALKS = 12
_STEPS = 25

Origin = Literal["start", "child", "replaced", "repeat"]


class Proposal(NamedTuple):
    """What one trial is to try.

    Attributes:
        params: Its Optuna parameters.
        architecture: The architecture that they stand for.
        labels: System attributes: the one by which Optuna's genetic samplers know its generation,
            what a screen predicted, and the mark of a repeat.
        origin: ``"start"`` for an architecture to start from, ``"child"`` for a child of the
            sampler's, ``"replaced"`` for what stands in for a child that was tried already or is
            out of bounds, and ``"repeat"`` where nothing new was left.
    """

    params: dict[str, Any]
    architecture: Architecture
    labels: dict[str, Any]
    origin: Origin


def make_trial(
    proposal: Proposal,
    evaluation: Evaluation,
    place: Place,
    distributions: dict[str, BaseDistribution],
) -> FrozenTrial:
    """Make the finished trial of a proposal that was evaluated."""
    failure = evaluation.failure
    attributes: dict[str, Any] = {**proposal.labels, PLACE_KEY: list(place)}
    if evaluation.violations:
        # optuna-dashboard reads the form that Optuna 4 wrote; Optuna 5 understands both.
        attributes["constraints"] = list(evaluation.violations.values())
    return optuna.create_trial(
        state=TrialState.COMPLETE if failure is None else TrialState.FAIL,
        params=proposal.params,
        distributions=distributions,
        values=evaluation.values if failure is None else None,
        user_attrs=evaluation.attributes | ({} if failure is None else {FAILURE_KEY: failure}),
        system_attrs=attributes,
        constraints=evaluation.violations,
    )


class Proposer:
    """Proposes generation after generation.

    A generation depends on the seed, its number and the trials before it, on nothing else.

    Args:
        settings: What is searched.
        meters: The costs of the study.
        sampler: The user's sampler, whose randomness goes on from where it is; None for the one
            that the settings name.
        island: Number of this search within its study.
        start: Architectures to try first.

    Attributes:
        island: The same.
    """

    def __init__(
        self,
        settings: StudySettings,
        meters: Meters,
        sampler: BaseSampler | None,
        island: int,
        start: Sequence[Architecture] = (),
    ) -> None:
        assert settings.seed is not None and settings.population_size is not None
        assert settings.sampler is not None
        self._settings = settings
        self._meters = meters
        self._cost_bounds = {n: bound for n, bound in settings.bounds.items() if n in meters}
        self._seed = settings.seed
        self._sizes = generation_sizes(settings.sampler, settings.population_size)
        self.island = island
        if settings.sampler == SCREENED:
            # A surrogate learns a front more easily between its two ends.
            ends = settings.space.smallest(), settings.space.largest()
            start = [*start, *(arch for arch in ends if not self._excess(arch))]
        self._start = [(settings.space.encode(arch), arch) for arch in start]
        self._strategy = make_strategy(
            sampler or settings.sampler,
            settings.population_size,
            settings.directions,
            settings.space.distributions(),
            ArchitectureKnowledge(settings, meters),
        )
        self._n_generations = 0

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Take in finished trials, from which the generations to come are bred."""
        self._strategy.learn(trials)

    def next_generation(self) -> Generation:
        """Choose the parents of the next generation; the first call is for generation 0."""
        number, self._n_generations = self._n_generations, self._n_generations + 1
        sampler_seed, mutation_seed = generation_seeds(self._seed, self.island, number)
        size = next(self._sizes)
        label = self._strategy.label
        return Generation(
            self._settings.space,
            self._excess,
            self._start,
            self._strategy.generation(sampler_seed, size),
            np.random.default_rng(mutation_seed),
            {} if label is None else {label: number},
            size,
        )

    def _excess(self, arch: Architecture) -> float:
        """Return by how much the costs of an architecture break their bounds, all together."""
        exceeded = violations(lambda name: self._meters.cost(name, arch), self._cost_bounds)
        return sum(max(value, 0.0) for value in exceeded.values())


@dataclasses.dataclass(frozen=True)
class Generation:
    """One generation to be proposed; made by :meth:`Proposer.next_generation`.

    Attributes:
        space: The search space.
        excess: Tells by how much an architecture breaks the bounds.
        start: Architectures to try first, with their parameters.
        children: Children from the sampler, as many as are asked for.
        rng: Randomness of replacements.
        labels: System attributes of every trial.
        size: How many trials it has.
    """

    space: SearchSpace
    excess: Callable[[Architecture], float]
    start: Sequence[tuple[dict[str, Any], Architecture]]
    children: Generator[Child, None, None]
    rng: np.random.Generator
    labels: dict[str, Any]
    size: int

    def propose(self, tried: Collection[Architecture]) -> list[Proposal]:
        """Propose the whole generation, given the architectures that were tried before."""
        tried = set(tried)
        proposals: list[Proposal] = []
        with contextlib.closing(self.children):
            while len(proposals) < self.size:
                proposal = self._next(tried)
                tried.add(proposal.architecture)
                proposals.append(proposal)
        return proposals

    def _next(self, tried: set[Architecture]) -> Proposal:
        labels = self.labels
        for params, arch in self.start:
            if arch not in tried:
                return Proposal(params, arch, labels, "start")
        first = child = next(self.children)
        for attempt in range(_ASKS):
            arch = self.space.decode(child.params)
            if arch not in tried and not self.excess(arch):
                origin: Origin = "replaced" if attempt else "child"
                return Proposal(child.params, arch, {**labels, **child.labels}, origin)
            child = next(self.children)
        return self._instead(first.params, tried)

    def _instead(self, rejected: dict[str, Any], tried: set[Architecture]) -> Proposal:
        """Walk from a rejected child, downhill into the bounds, to something new.

        After a walk without success the next one begins with a random step more. Where none
        succeeds, the child itself is proposed.
        """
        for walk in range(_WALKS):
            params, excess = rejected, float("inf")
            for step in range(_STEPS):
                changed = self._change(params)
                arch = self.space.decode(changed)
                its_excess = self.excess(arch)
                if its_excess > excess and step >= walk:
                    continue
                params, excess = changed, its_excess
                if not excess and arch not in tried:
                    return Proposal(params, arch, self.labels, "replaced")
        arch = self.space.decode(rejected)
        if arch not in tried:
            return Proposal(rejected, arch, self.labels, "child")
        return Proposal(rejected, arch, {**self.labels, REPEAT_KEY: True}, "repeat")

    def _change(self, params: dict[str, Any]) -> dict[str, Any]:
        """Draw a new value for one parameter."""
        names = list(params)
        name = names[self.rng.integers(len(names))]
        return {**params, name: self.space.encode(self.space.sample(self.rng))[name]}
