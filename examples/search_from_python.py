# %% [markdown]
# # Search from Python
#
# The best DSS at every parameter count, then one model to train. Cells begin with `# %%`;
# `python examples/search_from_python.py` runs them all.

# %%
import optuna

from tftas_optuna import SearchProgress, get_space, pareto_front, search

SPACE = "autoformer-tiny"
N_TRIALS = 100
BUDGET = 6.5e6  # most parameters

optuna.logging.set_verbosity(optuna.logging.WARNING)

# %% [markdown]
# ## Search within a budget
#
# The callback is called as trials are scored.


# %%
def tell(progress: SearchProgress) -> None:
    done = f"{progress.n_done}/{progress.n_trials} trials"
    print(f"\r{done}, hypervolume {progress.hypervolume:.0f}", end="")


study = search(
    get_space(SPACE), n_trials=N_TRIALS, bounds={"n_params": (None, BUDGET)}, callback=tell
)
print()

# %% [markdown]
# ## Look at the front

# %%
front = pareto_front(study)
for found in front:
    print(f"{found.values['dss']:10.0f}  {found.n_params:9d}  {found.architecture.summary()}")

# %% [markdown]
# ## Build its best

# %%
best = front[-1]
model = best.build(num_classes=10)
print(f"built trial {best.trial}: {sum(p.numel() for p in model.parameters()):,} parameters")
