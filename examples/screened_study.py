# %% [markdown]
# # The screened NSGA-II, in a study that has nothing to do with networks
#
# A made-up machine is tuned for little waste at high speed. Its price is known without a trial, so
# the sampler computes it for every candidate instead of predicting it, and keeps the budget. Cells
# begin with `# %%`; `python examples/screened_study.py` runs them all.

# %%
from collections.abc import Mapping
from typing import Any

import optuna

from tftas_optuna import ScreenedNSGAIISampler
from tftas_optuna.samplers import Known

N_TRIALS = 100
BUDGET = 12.0
MATERIALS = {"steel": 3.0, "brass": 5.0, "titanium": 9.0}

optuna.logging.set_verbosity(optuna.logging.WARNING)

# %% [markdown]
# ## The machine


# %%
def price(params: Mapping[str, Any]) -> float:
    return MATERIALS[params["material"]] + 0.5 * params["blades"]


def objective(trial: optuna.Trial) -> tuple[float, float]:
    params = {
        "feed": trial.suggest_float("feed", 0.1, 2.0, log=True),
        "blades": trial.suggest_int("blades", 2, 16),
        "material": trial.suggest_categorical("material", tuple(MATERIALS)),
    }
    trial.set_constraint("budget", price(params) - BUDGET)
    speed = params["feed"] * params["blades"]
    wear = speed**2 / (MATERIALS[params["material"]] * params["blades"])
    return 0.1 + wear + 0.02 * abs(params["blades"] - 9), speed


# %% [markdown]
# ## What the sampler knows of it
#
# Numbers that explain the objectives, and the price, which needs no trial.


# %%
def knowledge(params: Mapping[str, Any]) -> Known:
    features = [params["feed"], params["blades"], *(params["material"] == m for m in MATERIALS)]
    return Known(features, constraints={"budget": price(params) - BUDGET})


# %% [markdown]
# ## With it and without

# %%
for name, sampler in (
    ("NSGA-II", optuna.samplers.NSGAIISampler(seed=0)),
    ("screened NSGA-II", ScreenedNSGAIISampler(knowledge=knowledge, seed=0)),
):
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    study.optimize(objective, n_trials=N_TRIALS)
    front = study.best_trials
    fastest = max(trial.values[1] for trial in front)
    print(f"{name}: {len(front)} on the front, speeds up to {fastest:.1f}")
