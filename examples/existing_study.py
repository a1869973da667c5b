# %% [markdown]
# # DSS in an Optuna study of your own
#
# Your sampler, your storage, your own objective, in two ways. Cells begin with `# %%`;
# `python examples/existing_study.py` runs them all.

# %%
import optuna

from tftas_optuna import DSSObjective, Scorer, get_space, pareto_front

N_TRIALS = 30

optuna.logging.set_verbosity(optuna.logging.WARNING)
space = get_space("autoformer-tiny")
scorer = Scorer(space, fidelity="collapsed")

# %% [markdown]
# ## A ready objective
#
# Here with TPE, on DSS and MACs. `annotate` lets `tftas-optuna front` and `export` read the study.

# %%
objective = DSSObjective(space, objectives=("dss", "macs"), scorer=scorer)
study = optuna.create_study(
    directions=objective.directions,
    sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=10),
)
objective.annotate(study)
study.optimize(objective, n_trials=N_TRIALS)
print(f"TPE, DSS against MACs: {len(pareto_front(study))} on the front")

# %% [markdown]
# ## An objective of your own
#
# The space suggests the architecture and the scorer scores it, beside whatever else you tune.


# %%
def own_objective(trial: optuna.Trial) -> float:
    arch = space.suggest(trial)
    patience = trial.suggest_int("years_of_patience", 1, 5)
    costs = space.costs(arch)
    trial.set_user_attr("macs", costs.macs)
    return scorer(arch) / costs.n_params * patience


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(own_objective, n_trials=N_TRIALS)
print(f"own objective: {study.best_value:.4f} from {space.decode(study.best_params).summary()}")
