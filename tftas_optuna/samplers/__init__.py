"""Samplers by name, and how the randomness of a generation derives from the seed."""

from tftas_optuna.samplers.named import (
    SAMPLERS,
    generation_seeds,
    make_sampler,
    own_population_size,
    sampler_name,
)

__all__ = [
    "SAMPLERS",
    "generation_seeds",
    "make_sampler",
    "own_population_size",
    "sampler_name",
]
