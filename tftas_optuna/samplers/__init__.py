"""Samplers for any study: Optuna's by name, and NSGA-II with a screen."""

from tftas_optuna.samplers.archive import PREDICTED, Archive, agreement
from tftas_optuna.samplers.knowledge import Knowledge, Known, KnownTable, ManyKnown
from tftas_optuna.samplers.named import (
    SAMPLERS,
    SCREENED,
    generation_label,
    generation_seeds,
    generation_sizes,
    make_sampler,
    sampler_name,
    users_population_size,
    usual_population_size,
)
from tftas_optuna.samplers.problem import Problem
from tftas_optuna.samplers.screen import TRUSTED, WINDOW, Breeding, Child, Screen
from tftas_optuna.samplers.screened import ScreenedNSGAIISampler

__all__ = [
    "PREDICTED",
    "SAMPLERS",
    "SCREENED",
    "TRUSTED",
    "WINDOW",
    "Archive",
    "Breeding",
    "Child",
    "Knowledge",
    "Known",
    "KnownTable",
    "ManyKnown",
    "Problem",
    "Screen",
    "ScreenedNSGAIISampler",
    "agreement",
    "generation_label",
    "generation_seeds",
    "generation_sizes",
    "make_sampler",
    "sampler_name",
    "usual_population_size",
    "users_population_size",
]
