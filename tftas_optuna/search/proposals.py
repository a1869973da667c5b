"""What a generation tries: offspring of the best so far, none twice, all within the bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from tftas_optuna.metrics import violations
from tftas_optuna.samplers import SCREENED, generation_seeds, generation_sizes
from tftas_optuna.search.breeders import make_breeder
from tftas_optuna.study.knowledge import ArchitectureKnowledge
from tftas_optuna.study.place import REPEAT_KEY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meters
    from tftas_optuna.search.breeders import Litter
    from tftas_optuna.spaces import SearchSpace
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
            what a screen predicted, and the mark of a repeat.
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
        self._breeder = make_breeder(
            settings.directions,
            sampler or settings.sampler,
            settings.population_size,
            settings.space.distributions(),
            ArchitectureKnowledge(settings, meters),
        )
        self._n_generations = 0

    def next_generation(self, newcomers: Iterable[FrozenTrial]) -> Generation:
        """Choose the parents of the next generation; the first call is for generation 0.

        Args:
            newcomers: Trials that finished since the last call.
        """
        number, self._n_generations = self._n_generations, self._n_generations + 1
        sampler_seed, mutation_seed = generation_seeds(self._seed, self._island, number)
        size = next(self._sizes)
        litter = self._breeder.breed(newcomers, sampler_seed, size)
        label = self._breeder.label
        return Generation(
            self._settings.space,
            self._bounds,
            self._start,
            litter,
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
        found = violations(lambda name: self._meters.cost(name, arch), self._bounds)
        return sum(max(value, 0.0) for value in found.values())


class Generation:
    """One generation to be proposed; made by :meth:`Proposer.next_generation`.

    Args:
        space: The search space.
        bounds: Bounds that proposals have to keep.
        start: Architectures to try first, with their parameters.
        litter: What the sampler gives.
        rng: Randomness of replacements.
        labels: System attributes of every trial.
        size: Proposals of the generation.
    """

    def __init__(
        self,
        space: SearchSpace,
        bounds: _CostBounds,
        start: Sequence[tuple[dict[str, Any], Architecture]],
        litter: Litter,
        rng: np.random.Generator,
        labels: dict[str, Any],
        size: int,
    ) -> None:
        self._space = space
        self._distributions = space.distributions()
        self._bounds = bounds
        self._start = start
        self._litter = litter
        self._rng = rng
        self._labels = labels
        self._size = size

    def propose(self, known: Collection[Architecture]) -> list[Proposal]:
        """Propose the whole generation.

        Args:
            known: Architectures that the study has already.
        """
        tried = set(known)
        proposals: list[Proposal] = []
        while len(proposals) < self._size:
            proposal = self._next(tried)
            tried.add(proposal.architecture)
            proposals.append(proposal)
        self._litter.close()
        return proposals

    def _next(self, tried: set[Architecture]) -> Proposal:
        labels = self._labels
        for params, arch in self._start:
            if arch not in tried:
                return Proposal(params, arch, labels, "start")
        first = bred = self._litter.ask(self._distributions)
        for attempt in range(_ASKS):
            arch = self._space.decode(bred.params)
            if arch not in tried and not self._bounds.excess(arch):
                origin: Origin = "replaced" if attempt else "offspring"
                return Proposal(bred.params, arch, {**labels, **bred.labels}, origin)
            bred = self._litter.ask(self._distributions)
        return self._instead(first.params, tried)

    def _instead(self, first: dict[str, Any], tried: set[Architecture]) -> Proposal:
        """Replace a proposal that was tried already or is out of bounds."""
        labels = self._labels
        mutated = self._mutate(first, tried)
        if mutated is not None:
            return Proposal(*mutated, labels, "replaced")
        arch = self._space.decode(first)
        if arch not in tried:
            return Proposal(first, arch, labels, "offspring")
        return Proposal(first, arch, {**labels, REPEAT_KEY: True}, "repeat")

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
                found = self._bounds.excess(arch)
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
