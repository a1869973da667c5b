"""What a generation tries: children of the best so far, none twice, all within the bounds."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from tftas_optuna.metrics import violations
from tftas_optuna.samplers import SCREENED, generation_seeds, generation_sizes, make_strategy
from tftas_optuna.study.knowledge import ArchitectureKnowledge
from tftas_optuna.study.place import REPEAT_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable, Sequence

    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meters
    from tftas_optuna.samplers import Child
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.study.settings import StudySettings

_ASKS = 4
_WALKS = 12
_STEPS = 25

Origin = Literal["start", "child", "replaced", "repeat"]


class NewTrial(NamedTuple):
    """A trial before it is scored.

    Attributes:
        params: Its Optuna parameters.
        architecture: What they mean.
        labels: System attributes: the one by which Optuna's genetic samplers know its generation,
            what a screen predicted, and the mark of a repeat.
        origin: ``"start"`` for an architecture to start from, ``"child"`` for what the sampler
            bred, ``"replaced"`` where that was tried already or out of bounds, and ``"repeat"``
            where the search came upon nothing new.
    """

    params: dict[str, Any]
    architecture: Architecture
    labels: dict[str, Any]
    origin: Origin


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
        self._bounds = _CostBounds(settings, meters)
        self._seed = settings.seed
        self._sizes = generation_sizes(settings.sampler, settings.population_size)
        self._island = island
        if settings.sampler == SCREENED:
            # Between its ends a front is easier to learn.
            ends = settings.space.smallest(), settings.space.largest()
            start = [*start, *(arch for arch in ends if not self._bounds.excess(arch))]
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
        sampler_seed, mutation_seed = generation_seeds(self._seed, self._island, number)
        size = next(self._sizes)
        label = self._strategy.label
        return Generation(
            self._settings.space,
            self._bounds,
            self._start,
            self._strategy.generation(sampler_seed, size),
            np.random.default_rng(mutation_seed),
            {} if label is None else {label: number},
            size,
        )


class _CostBounds:
    """What can be told of the bounds before anything is scored."""

    def __init__(self, settings: StudySettings, meters: Meters) -> None:
        self._meters = meters
        self._bounds = {n: bound for n, bound in settings.bounds.items() if n in meters}

    def excess(self, arch: Architecture) -> float:
        """Sum up what an architecture exceeds the bounds by."""
        exceeded = violations(lambda name: self._meters.cost(name, arch), self._bounds)
        return sum(max(value, 0.0) for value in exceeded.values())


@dataclasses.dataclass(frozen=True)
class Generation:
    """One generation to be proposed; made by :meth:`Proposer.next_generation`.

    Attributes:
        space: The search space.
        bounds: Bounds that its trials have to keep.
        start: Architectures to try first, with their parameters.
        children: What the sampler breeds.
        rng: Randomness of replacements.
        labels: System attributes of every trial.
        size: How many trials it has.
    """

    space: SearchSpace
    bounds: _CostBounds
    start: Sequence[tuple[dict[str, Any], Architecture]]
    children: Generator[Child, None, None]
    rng: np.random.Generator
    labels: dict[str, Any]
    size: int

    def propose(self, tried: Collection[Architecture]) -> list[NewTrial]:
        """Propose the whole generation.

        Args:
            tried: Architectures that the study has already.
        """
        tried = set(tried)
        trials: list[NewTrial] = []
        with contextlib.closing(self.children):
            while len(trials) < self.size:
                trial = self._next(tried)
                tried.add(trial.architecture)
                trials.append(trial)
        return trials

    def _next(self, tried: set[Architecture]) -> NewTrial:
        labels = self.labels
        for params, arch in self.start:
            if arch not in tried:
                return NewTrial(params, arch, labels, "start")
        first = child = next(self.children)
        for attempt in range(_ASKS):
            arch = self.space.decode(child.params)
            if arch not in tried and not self.bounds.excess(arch):
                origin: Origin = "replaced" if attempt else "child"
                return NewTrial(child.params, arch, {**labels, **child.labels}, origin)
            child = next(self.children)
        return self._instead(first.params, tried)

    def _instead(self, rejected: dict[str, Any], tried: set[Architecture]) -> NewTrial:
        """Replace a child that was tried already or is out of bounds."""
        labels = self.labels
        mutated = self._mutate(rejected, tried)
        if mutated is not None:
            return NewTrial(*mutated, labels, "replaced")
        arch = self.space.decode(rejected)
        if arch not in tried:
            return NewTrial(rejected, arch, labels, "child")
        return NewTrial(rejected, arch, {**labels, REPEAT_KEY: True}, "repeat")

    def _mutate(
        self, rejected: dict[str, Any], tried: set[Architecture]
    ) -> tuple[dict[str, Any], Architecture] | None:
        """Walk from a rejected child, downhill into the bounds, to something new.

        A walk that comes to nothing new is followed by another that begins with some more random
        steps.
        """
        for walk in range(_WALKS):
            params, excess = rejected, float("inf")
            for step in range(_STEPS):
                changed = self._change(params)
                arch = self.space.decode(changed)
                its_excess = self.bounds.excess(arch)
                if its_excess > excess and step >= walk % _STEPS:
                    continue
                params, excess = changed, its_excess
                if not excess and arch not in tried:
                    return params, arch
        return None

    def _change(self, params: dict[str, Any]) -> dict[str, Any]:
        """Draw one parameter anew."""
        names = list(params)
        name = names[self.rng.integers(len(names))]
        return {**params, name: self.space.encode(self.space.sample(self.rng))[name]}
