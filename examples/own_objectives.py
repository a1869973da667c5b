"""Searches by a cost and an indicator of your own.

The cost is an estimate of the energy of one image on a small accelerator; the indicator is the
spread of the logits over random images, a stand-in for whatever you want to try. `run` takes them
by name too, once an installed package brings them as entry points:

    [project.entry-points."tftas_optuna.costs"]
    energy_mj = "my_package:energy_mj"

    [project.entry-points."tftas_optuna.indicators"]
    logit_spread = "my_package:logit_spread"

    tftas-optuna run --objectives dss,energy_mj --bound "energy_mj<=9"

    python examples/own_objectives.py
"""

from __future__ import annotations

import argparse

import torch

from tftas_optuna import (
    Architecture,
    get_space,
    pareto_front,
    register_cost,
    register_indicator,
    search,
)


# At the top of the module, so that worker processes know them too.
@register_cost("energy_mj", unit="mJ")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--n-trials", type=int, default=100)
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--storage", default="sqlite:///own.db")
    args = parser.parse_args()

    study = search(
        get_space(args.space),
        n_trials=args.n_trials,
        storage=args.storage,
        objectives=("dss", "logit_spread", "energy_mj"),
        img_size=args.img_size,
    )
    for found in pareto_front(study):
        print(
            f"trial {found.trial}: DSS {found.values['dss']:.5g}, spread"
            f" {found.values['logit_spread']:.3g}, {found.values['energy_mj']:.2f} mJ,"
            f" {found.architecture.summary()}"
        )


if __name__ == "__main__":
    main()
