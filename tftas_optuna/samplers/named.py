"""Samplers by name, and the sizes and seeds of their generations."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseGASampler,
    BaseSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from tftas_optuna._given import expect
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCREENED = "screened-nsgaii"
_OPTUNAS: dict[str, Callable[[int, int], BaseSampler]] = {
    "nsgaii": lambda size, seed: NSGAIISampler(population_size=size, seed=seed),
    "nsgaiii": lambda size, seed: NSGAIIISampler(population_size=size, seed=seed),
    # constant_liar, because a whole generation is sampled before any trial of it is scored.
    "tpe": lambda size, seed: TPESampler(seed=seed, constant_liar=True),
    "gp": lambda size, seed: GPSampler(seed=seed),
    "random": lambda size, seed: RandomSampler(seed=seed),
}

# Surrogates are fitted again after every generation, so small generations are better.
_POPULATIONS = {SCREENED: 20, "gp": 1}
_POPULATION = 50
_LARGEST = 256


def usual_population_size(name: str) -> int:
    """Return the default number of trials in a generation of a sampler."""
    return _POPULATIONS.get(name, _POPULATION)


def generation_sizes(sampler: str, population_size: int) -> Iterator[int]:
    """Yield the number of trials of each generation.

    A screened generation grows to a twentieth of all trials before it: a surrogate fitted to
    thousands of trials learns little from twenty more, and large generations score faster.

    Args:
        sampler: Name of the sampler.
        population_size: Number of trials of the first generation.
    """
    before = 0
    while True:
        size = population_size
        if sampler == SCREENED:
            size = max(population_size, min(before // 20, _LARGEST))
        before += size
        yield size


def make_sampler(name: str, population_size: int, seed: int) -> BaseSampler:
    """Return one of Optuna's samplers.

    Raises:
        TftasError: There is no sampler of this name.
        UnavailableError: The sampler needs a package that is not installed.
    """
    if name not in _OPTUNAS:
        hint = did_you_mean(name, (SCREENED, *_OPTUNAS))
        raise TftasError(f"sampler {name!r} does not exist{hint}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            return _OPTUNAS[name](population_size, seed)
        except ImportError as error:
            raise UnavailableError(
                f"sampler {name!r} needs SciPy; pip install 'tftas-optuna[{name}]'"
            ) from error


def sampler_name(sampler: str | BaseSampler) -> str:
    """Return the name of a sampler as studies record it.

    Raises:
        TftasError: It is neither a name nor a sampler.
    """
    expect("sampler", sampler, (str, BaseSampler), "a name, or a sampler object of Optuna")
    return sampler if isinstance(sampler, str) else type(sampler).__name__


def users_population_size(sampler: str | BaseSampler | None) -> int | None:
    """Return the population size of a sampler object; None if it has none."""
    return sampler.population_size if isinstance(sampler, BaseGASampler) else None


def generation_seeds(seed: int, island: int, generation: int) -> tuple[int, int]:
    """Return two seeds for a generation, derived from the seed, the island and its number."""
    first, second = np.random.SeedSequence((seed, island, generation)).generate_state(2)
    return int(first), int(second)
