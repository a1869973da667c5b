# %% [markdown]
# # A cost and an indicator of your own
#
# The cost estimates the energy of one image on a small accelerator; the indicator is the spread of
# the logits over random images, a stand-in for whatever you want to try. Cells begin with `# %%`;
# `python examples/own_objectives.py` runs them all.

# %%
import torch

from tftas_optuna import (
    Architecture,
    get_space,
    pareto_front,
    register_cost,
    register_indicator,
    search,
)

N_TRIALS = 100
IMG_SIZE = 224

# %% [markdown]
# ## Register them
#
# For several processes put them into a module that each process imports, preferably an installed
# one. Then `run` takes them by name too:
#
#     [project.entry-points."tftas_optuna.costs"]
#     energy_mj = "my_package:energy_mj"
#
#     [project.entry-points."tftas_optuna.indicators"]
#     logit_spread = "my_package:logit_spread"
#
#     tftas-optuna run --objectives dss,energy_mj --bound "energy_mj<=9"


# %%
@register_cost("energy_mj", unit="mJ", closed_form=True)
def energy_mj(arch: Architecture, *, img_size: int, num_classes: int, in_chans: int) -> float:
    """Charge 4.6 pJ a multiply-accumulate, 640 pJ a weight from memory (Horowitz 2014, 45 nm)."""
    costs = arch.costs(img_size=img_size, num_classes=num_classes, in_chans=in_chans)
    return 1e-9 * (4.6 * costs.macs + 640 * costs.n_params)


@register_indicator("logit_spread")
def logit_spread(model: torch.nn.Module, images: torch.Tensor) -> float:
    """Compute the standard deviation of the logits over eight random images."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, *images.shape[1:], generator=generator).to(images)
    with torch.inference_mode():
        return float(model(noise).std(dim=0).mean())


# %% [markdown]
# ## Search by both, and DSS

# %%
study = search(
    get_space("autoformer-tiny"),
    n_trials=N_TRIALS,
    storage="sqlite:///own.db",
    objectives=("dss", "logit_spread", "energy_mj"),
    img_size=IMG_SIZE,
)
for found in pareto_front(study):
    print(
        f"trial {found.trial}: DSS {found.values['dss']:.5g}, spread"
        f" {found.values['logit_spread']:.3g}, {found.values['energy_mj']:.2f} mJ,"
        f" {found.architecture.summary()}"
    )
