"""Studies of random architectures, without a search: their scores are made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna

from tftas_optuna.architecture import Architecture
from tftas_optuna.metrics import Bounds, Meters, violations
from tftas_optuna.scoring.conditions import Conditions
from tftas_optuna.spaces import SearchSpace
from tftas_optuna.study.record import write_settings
from tftas_optuna.study.settings import StudySettings


def random_study(
    space: SearchSpace,
    n_trials: int,
    *,
    objectives: tuple[str, ...] = ("dss", "n_params"),
    bounds: Bounds | None = None,
    name: str = "made up",
    storage: str | None = None,
    score: Callable[[Any], float] | None = None,
) -> optuna.Study:
    """Make a study as a search leaves it, of architectures drawn at random."""
    settings = StudySettings(
        Conditions.of(space, img_size=32, num_classes=10),
        objectives=objectives,
        directions=tuple("maximize" if n == "dss" else "minimize" for n in objectives),
        fidelity="collapsed",
        bounds=bounds or {},
        approximated=("dss",),
        seed=3,
        population_size=8,
        sampler="nsgaii",
    )
    study = optuna.create_study(
        study_name=name, storage=storage, directions=list(settings.directions)
    )
    write_settings(study, settings)
    meters = Meters(settings.costs, space, settings.target)
    rng = np.random.default_rng(0)
    for _ in range(n_trials):
        arch = space.sample(rng)
        known = {cost: meters.cost(cost, arch) for cost in settings.costs}
        known["dss"] = (score or made_up_score)(arch)
        study.add_trial(_trial(space, settings, arch, known))
    return study


def made_up_score(arch: Any) -> float:
    """Score an architecture: all that counts is the heads of its blocks, or of its stages."""
    return 10.0 * sum(arch.num_heads)


def _trial(
    space: SearchSpace, settings: StudySettings, arch: Architecture, known: Mapping[str, float]
) -> optuna.trial.FrozenTrial:
    return optuna.create_trial(
        params=space.encode(arch),
        distributions=space.distributions(),
        values=[known[name] for name in settings.objectives],
        user_attrs={n: v for n, v in known.items() if n not in settings.objectives},
        system_attrs={"constraints": [*violations(known.__getitem__, settings.bounds).values()]},
    )
