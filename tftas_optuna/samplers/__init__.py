"""Samplers for any study: Optuna's samplers by name, and NSGA-II with a screen."""

from tftas_optuna.samplers.archive import PREDICTED, agreement
from tftas_optuna.samplers.knowledge import Knowledge, Known, KnownTable, ManyKnown
from tftas_optuna.samplers.named import (
    SCREENED,
    generation_seeds,
    generation_sizes,
    make_sampler,
    sampler_name,
    users_population_size,
    usual_population_size,
)
from tftas_optuna.samplers.screen import TRUSTED, WINDOW, Child
from tftas_optuna.samplers.screened import ScreenedNSGAIISampler
from tftas_optuna.samplers.strategies import Strategy, make_strategy

__all__ = [
    "PREDICTED",
    "SCREENED",
    "TRUSTED",
    "WINDOW",
    "Child",
    "Knowledge",
    "Known",
    "KnownTable",
    "ManyKnown",
    "ScreenedNSGAIISampler",
    "Strategy",
    "agreement",
    "generation_seeds",
    "generation_sizes",
    "make_sampler",
    "make_strategy",
    "sampler_name",
    "users_population_size",
    "usual_population_size",
]
