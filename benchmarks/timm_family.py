"""DSS, parameters and MACs of timm's Vision Transformers: a table and a plot.

Goes through timm's models, keeps those with attention up to a size, and scores each with fresh
weights at its own image size and 1000 classes. Scores of different makes are no ranking of
accuracy: they follow how a make draws and scales its weights (a LayerScale of 1e-5, say) as much
as its shape. Within one make they can be compared.

    pip install 'tftas-optuna[benchmarks]'
    python benchmarks/timm_family.py --max-params 25e6 --out benchmarks/results/timm_family.json
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import model_entrypoint

from tftas_optuna import TftasError, score_model
from tftas_optuna.passes.networks import count_macs, input_shape
from tftas_optuna.passes.structure import read_structure

# Larger than any limit that fits an afternoon on a CPU; building them only to count takes long.
HUGE = re.compile(r"huge|giant|gigantic|enormous|large|_g_|so400m|so150m|_[1-9]b_|xlarge|_l_|_7b")
# Makes with attention, by timm's modules.
MAKES = (
    "beit cait coat convit crossvit csatv2 davit deit edgenext efficientformer"
    " efficientformer_v2 eva gcvit hiera levit maxxvit metaformer mobilenetv3 mobilevit mvitv2"
    " naflexvit nest pit pvt_v2 swiftformer swin_transformer tiny_vit tnt twins"
    " vision_transformer vision_transformer_hybrid vision_transformer_relpos vitamin volo xcit"
).split()


def measure(name: str, max_params: float) -> dict[str, Any] | None:
    """Score one model; None for one that is too large or has no attention."""
    torch.manual_seed(0)
    try:
        model = timm.create_model(name, num_classes=1000)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        return {"model": name, "error": f"cannot be built: {error}"}
    n_params = sum(parameter.numel() for parameter in model.parameters())
    if n_params > max_params:
        return None
    try:
        read_structure(model)
    except TftasError:
        return None
    start = time.perf_counter()
    try:
        score = score_model(model)
    except TftasError as error:
        return {"model": name, "error": str(error)}
    seconds = time.perf_counter() - start
    return {
        "model": name,
        "make": model_entrypoint(name).__module__.rpartition(".")[2],
        "img_size": input_shape(model)[1],
        "dss": score,
        "n_params": n_params,
        "macs": count_macs(model),
        "seconds": seconds,
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    makes = sorted({row["make"] for row in rows})
    colours = plt.get_cmap("tab20", max(len(makes), 1))
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), sharey=True, constrained_layout=True)
    for axis, cost, label in (
        (axes[0], "n_params", "parameters"),
        (axes[1], "macs", "MACs (true count, own image size)"),
    ):
        for i, make in enumerate(makes):
            own = [row for row in rows if row["make"] == make]
            axis.scatter(
                [row[cost] for row in own],
                [row["dss"] for row in own],
                s=18,
                color=colours(i),
                marker="osv^D"[i % 5],
                label=make,
            )
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("DSS, fresh weights")
    figure.suptitle(f"DSS of {len(rows)} timm models with attention, by make")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--max-params", type=float, default=25e6)
    parser.add_argument("--minutes", type=float, default=60, help="stop after so many")
    parser.add_argument("--plot-only", action="store_true", help="draw an earlier result again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/timm_family.json"))
    args = parser.parse_args()

    if args.plot_only:
        rows = json.loads(args.out.read_text())["scored"]
        plot(rows, args.out.with_suffix(".png"))
        return
    names = [
        name
        for name in timm.list_models()
        if not HUGE.search(name) and model_entrypoint(name).__module__.rpartition(".")[2] in MAKES
    ]
    scored, refused, left = [], {}, list(names)
    deadline = time.monotonic() + 60 * args.minutes
    while left and time.monotonic() < deadline:
        row = measure(left.pop(0), args.max_params)
        if row is not None and "error" in row:
            refused[row["model"]] = row["error"]
        elif row is not None:
            scored.append(row)
            print(
                f"{row['model']:44} {row['img_size']:4} {row['n_params'] / 1e6:7.2f} M"
                f" {row['macs'] / 1e9:7.2f} G {row['dss']:12.6g}  {row['seconds']:5.1f} s",
                flush=True,
            )
    for name, reason in refused.items():
        print(f"{name:44} refused: {reason}")
    print(f"{len(scored)} scored, {len(refused)} refused, {len(left)} not reached")
    result = {
        "max_params": args.max_params,
        "scored": scored,
        "refused": refused,
        "not_reached": left,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    plot(scored, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
