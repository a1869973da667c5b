"""The proposals of a generation: new children of the best trials, within the bounds."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from tftas_optuna.metrics import violations
from tftas_optuna.samplers import SCREENED, generation_seeds, generation_sizes, make_strategy
from tftas_optuna.study.knowledge import ArchitectureKnowledge
from tftas_optuna.study.own import FAILURE_KEY
from tftas_optuna.study.place import PLACE_KEY, REPEAT_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Iterable, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meters
    from tftas_optuna.samplers import Child
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.study.evaluations import Evaluation
    from tftas_optuna.study.place import Place
    from tftas_optuna.study.settings import StudySettings

# Most children to try until one is new and within the bounds; then most random walks from the
# first child, and steps in a walk.
_ASKS = 4
_WALKS = 12
_STEPS = 25

Origin = Literal["start", "child", "replaced", "repeat"]


class Proposal(NamedTuple):
    """A proposed trial.

    Attributes:
        params: Its Optuna parameters.
        architecture: The architecture of these parameters.
        labels: System attributes: the generation, as Optuna's genetic samplers store it, the
            prediction of a screen, and the mark of a repeat.
        origin: ``"start"`` for an architecture to start from, ``"child"`` for a child from the
            sampler, ``"replaced"`` for the replacement of a child that was tried already or is
            out of bounds, and ``"repeat"`` if nothing new was found.
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
    """Return the finished trial of an evaluated proposal, without times and without a number.

    ``optuna.create_trial`` compares the distributions of every trial, which takes ten times as
    long as all the rest.
    """
    failure = evaluation.failure
    attributes: dict[str, Any] = {**proposal.labels, PLACE_KEY: list(place)}
    if evaluation.violations:
        # optuna-dashboard reads the format of Optuna 4; Optuna 5 reads both.
        attributes["constraints"] = list(evaluation.violations.values())
    trial = FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState.COMPLETE if failure is None else TrialState.FAIL,
        value=None,
        values=evaluation.values if failure is None else None,
        datetime_start=None,
        datetime_complete=None,
        params=proposal.params,
        distributions=distributions,
        user_attrs=evaluation.attributes | ({} if failure is None else {FAILURE_KEY: failure}),
        system_attrs=attributes,
        intermediate_values={},
    )
    for name, excess in evaluation.violations.items():
        trial.set_constraint(name, excess)
    return trial


class Proposer:
    """Proposes the generations of a search.

    A generation depends only on the seed, its number and the trials before it.

    Args:
        settings: The settings of the study.
        meters: The costs of the study.
        sampler: The user's sampler, which continues from its current random state; None for the
            sampler named in the settings.
        island: Number of this search within its study.
        start: Architectures to try first.

    Attributes:
        island: Number of this search within its study.
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
            # A surrogate model learns a front better if it knows both ends.
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
        """Add finished trials as possible parents of the next generations."""
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
        """Return the summed relative excess of an architecture's costs over their bounds."""
        exceeded = violations(lambda name: self._meters.cost(name, arch), self._cost_bounds)
        return sum(max(value, 0.0) for value in exceeded.values())


@dataclasses.dataclass(frozen=True)
class Generation:
    """A generation to propose; made by :meth:`Proposer.next_generation`.

    Attributes:
        space: The search space.
        excess: Returns by how much an architecture exceeds the bounds.
        start: Architectures to try first, with their parameters.
        children: An endless generator of children from the sampler.
        rng: Random generator for replacements.
        labels: System attributes of every trial.
        size: Number of trials.
    """

    space: SearchSpace
    excess: Callable[[Architecture], float]
    start: Sequence[tuple[dict[str, Any], Architecture]]
    children: Generator[Child, None, None]
    rng: np.random.Generator
    labels: dict[str, Any]
    size: int

    def propose(self, tried: Container[Architecture]) -> list[Proposal]:
        """Return the proposals, given the architectures that were tried before."""
        proposals: list[Proposal] = []
        proposed: set[Architecture] = set()

        def is_new(arch: Architecture) -> bool:
            return arch not in tried and arch not in proposed

        with contextlib.closing(self.children):
            while len(proposals) < self.size:
                proposal = self._next(is_new)
                proposed.add(proposal.architecture)
                proposals.append(proposal)
        return proposals

    def _next(self, is_new: Callable[[Architecture], bool]) -> Proposal:
        labels = self.labels
        for params, arch in self.start:
            if is_new(arch):
                return Proposal(params, arch, labels, "start")
        first = child = next(self.children)
        for attempt in range(_ASKS):
            arch = self.space.decode(child.params)
            if is_new(arch) and not self.excess(arch):
                origin: Origin = "replaced" if attempt else "child"
                return Proposal(child.params, arch, {**labels, **child.labels}, origin)
            child = next(self.children)
        return self._replacement(first.params, is_new)

    def _replacement(
        self, rejected: dict[str, Any], is_new: Callable[[Architecture], bool]
    ) -> Proposal:
        """Return a new architecture within the bounds, by a random walk from a rejected child.

        Each walk takes one more free step at its start than the one before; later steps must not
        increase the excess. If all walks fail, the child itself is proposed.
        """
        for walk in range(_WALKS):
            params, excess = rejected, float("inf")
            for step in range(_STEPS):
                changed = self._change(params)
                arch = self.space.decode(changed)
                new_excess = self.excess(arch)
                if new_excess > excess and step >= walk:
                    continue
                params, excess = changed, new_excess
                if not excess and is_new(arch):
                    return Proposal(params, arch, self.labels, "replaced")
        arch = self.space.decode(rejected)
        if is_new(arch):
            return Proposal(rejected, arch, self.labels, "child")
        return Proposal(rejected, arch, {**self.labels, REPEAT_KEY: True}, "repeat")

    def _change(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters with a random value for one of them."""
        names = list(params)
        name = names[self.rng.integers(len(names))]
        return {**params, name: self.space.encode(self.space.sample(self.rng))[name]}
