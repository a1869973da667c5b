"""Small problems for samplers, whose best is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import BaseTrial, FrozenTrial

from tftas_optuna import ScreenedNSGAIISampler
from tftas_optuna.samplers import PREDICTED
from tftas_optuna.study._optuna import compute_hypervolume

N_PARAMS = 8
CHOICES = (0, 1, 2, 3)
DIRECTIONS = ["maximize", "minimize"]
Values = float | tuple[float, ...]
Objective = Callable[[BaseTrial], Values]


def digits(trial: BaseTrial) -> list[int]:
    return [trial.suggest_categorical(f"x{i}", CHOICES) for i in range(N_PARAMS)]


def score(x: Sequence[int]) -> float:
    """What is to be found: terms of different weights, and some that belong together."""
    return 1 + sum((i + 1) * v for i, v in enumerate(x)) + 3 * x[0] * x[1] + 2 * x[2] * x[3]


def trade(trial: BaseTrial) -> tuple[float, float]:
    """A score against what it costs."""
    x = digits(trial)
    return score(x), cost(x)


def cost(x: Sequence[int]) -> float:
    return 1.0 + sum(x)


def noise(trial: BaseTrial) -> tuple[float, float]:
    """What nobody can learn, always the same for the same parameters, against a cost."""
    x = digits(trial)
    digest = hashlib.sha256(repr(x).encode()).digest()
    return int.from_bytes(digest[:4], "little") / 2**32, cost(x)


def constant(trial: BaseTrial) -> tuple[float, float]:
    return 1.0, cost(digits(trial))


def screened(seed: int = 0, **kwargs: Any) -> ScreenedNSGAIISampler:
    """A small one, so that its screen soon begins and is fast."""
    defaults: dict[str, Any] = {"population_size": 10, "n_offspring": 20}
    return ScreenedNSGAIISampler(seed=seed, **{**defaults, **kwargs})


def run(
    objective: Objective,
    sampler: optuna.samplers.BaseSampler,
    n_trials: int,
    directions: Sequence[str] = DIRECTIONS,
    **kwargs: Any,
) -> optuna.Study:
    study = optuna.create_study(directions=list(directions), sampler=sampler)
    study.optimize(objective, n_trials=n_trials, **kwargs)
    return study


def predictions(study: optuna.Study) -> list[list[float | None] | None]:
    return [trial.system_attrs.get(PREDICTED) for trial in study.trials]


def values_of(trials: Sequence[FrozenTrial]) -> list[tuple[object, object]]:
    return [(trial.params, trial.values) for trial in trials]


def hypervolume(study: optuna.Study, worst: Sequence[float]) -> float:
    """Measure the front of a study of :data:`DIRECTIONS` from a point that is worse than all."""
    signs = np.array([-1.0, 1.0])
    losses = np.array([trial.values for trial in study.trials]) * signs
    reference = np.array(worst) * signs
    return compute_hypervolume(np.minimum(losses, reference), reference)
