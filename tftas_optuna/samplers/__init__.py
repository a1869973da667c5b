"""Samplers by name, and how the randomness of a generation derives from the seed."""

from tftas_optuna.samplers.named import (
    SAMPLERS,
    generation_label,
    generation_seeds,
    make_sampler,
    sampler_name,
    users_population_size,
)

__all__ = [
    "SAMPLERS",
    "generation_label",
    "generation_seeds",
    "make_sampler",
    "sampler_name",
    "users_population_size",
]
