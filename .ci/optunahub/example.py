"""A made-up machine is tuned for little waste at high speed, within a budget.

Its price is known without a trial: the sampler computes it for every candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
import optunahub

MATERIALS = {"steel": 3.0, "brass": 5.0, "titanium": 9.0}
BUDGET = 12.0

package = optunahub.load_module(package="samplers/screened_nsgaii")


def price(params: Mapping[str, Any]) -> float:
    return MATERIALS[params["material"]] + 0.5 * params["blades"]


def objective(trial: optuna.Trial) -> tuple[float, float]:
    params: dict[str, Any] = {
        "feed": trial.suggest_float("feed", 0.1, 2.0, log=True),
        "blades": trial.suggest_int("blades", 2, 16),
        "material": trial.suggest_categorical("material", tuple(MATERIALS)),
    }
    trial.set_constraint("budget", price(params) - BUDGET)
    speed = params["feed"] * params["blades"]
    wear = speed**2 / (MATERIALS[params["material"]] * params["blades"])
    return 0.1 + wear + 0.02 * abs(params["blades"] - 9), speed


def knowledge(params: Mapping[str, Any]) -> Any:
    features = [params["feed"], params["blades"], *(params["material"] == m for m in MATERIALS)]
    return package.Known(features, constraints={"budget": price(params) - BUDGET})


if __name__ == "__main__":
    sampler = package.ScreenedNSGAIISampler(knowledge=knowledge, seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    study.optimize(objective, n_trials=100)
    for trial in study.best_trials:
        print(trial.values, trial.params)
