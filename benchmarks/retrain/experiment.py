"""Does DSS rank networks of one size as training does? Asked on real, if very small, images.

    python benchmarks/retrain/experiment.py

Draws architectures of the space in ``digits.yaml`` within a narrow band of parameters, trains
each with three seeds on scikit-learn's digits (the recipe ``quick``, shortened and without
augmentation), and compares the order of the mean accuracies with that of DSS, of the plain
parameter count and of MACs, by Kendall's tau. How far the seeds agree among themselves tells how
far accuracy itself is a ranking. Stopped, it goes on where it was. Results go to
``benchmarks/results/retrain_digits.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from images import write_digits

from tftas_optuna import Architecture, Scorer, get_space
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.network import Network
from tftas_optuna.retrain.run import train_network

HERE = Path(__file__).parent
RECIPE = {"no_aug": True, "warmup_epochs": 2}


def draw(count: int, low: float, high: float, seed: int) -> list[Architecture]:
    """Draw distinct architectures whose parameters lie in a band."""
    space, rng = get_space(HERE / "digits.yaml"), np.random.default_rng(seed)
    drawn: dict[Architecture, None] = {}
    while len(drawn) < count:
        arch = space.sample(rng)
        if low <= space.costs(arch).n_params <= high:
            drawn[arch] = None
    return list(drawn)


def interval(first: np.ndarray, second: np.ndarray, seed: int = 0) -> list[float]:
    """Bootstrap a 95 % interval of tau over the architectures."""
    rng = np.random.default_rng(seed)
    taus = []
    for _ in range(2000):
        chosen = rng.integers(len(first), size=len(first))
        i, j = np.triu_indices(len(first), k=1)
        pairs = chosen[i] != chosen[j]
        a, b = first[chosen], second[chosen]
        signs = np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])
        taus.append(signs[pairs].mean())
    return [round(float(value), 3) for value in np.percentile(taus, [2.5, 97.5])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architectures", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--band", type=float, nargs=2, default=(34e3, 36e3))
    parser.add_argument("--work", type=Path, default=Path("retrain_digits"))
    args = parser.parse_args()

    torch.set_num_threads(1)
    images = write_digits(args.work / "digits")
    archs = draw(args.architectures, *args.band, seed=0)
    space = get_space(HERE / "digits.yaml")
    scorer = Scorer(space, n_seeds=5, device="cpu")
    rows = []
    for number, (arch, dss) in enumerate(zip(archs, scorer.batch(archs), strict=True)):
        costs = space.costs(arch)
        network = Network(f"arch{number:02d}", f"tftas_{arch.family}", arch, space.img_size)
        results = [
            train_network(
                network,
                load_recipe("quick", {**RECIPE, "epochs": args.epochs, "seed": seed}),
                DataSource(images),
                args.work / f"seed{seed}" / network.label,
                world=World(torch.device("cpu")),
            )
            for seed in range(args.seeds)
        ]
        row = {
            "architecture": arch.to_dict(),
            "dss": dss,
            "n_params": costs.n_params,
            "macs": costs.macs,
            "top1": [result["top1"] for result in results],
            "loss": [result["loss"] for result in results],
            "seconds": sum(result["seconds"] for result in results),
        }
        rows.append(row)
        shown = ", ".join(f"{value:.1f}" for value in row["top1"])
        print(f"{number + 1:2d}/{len(archs)} {arch.summary()}  DSS {dss:.4g}  top-1 {shown}")

    top1, loss = (np.array([row[name] for row in rows]) for name in ("top1", "loss"))
    accuracy, goodness = top1.mean(1), -loss.mean(1)
    taus = {}
    for name in ("dss", "n_params", "macs"):
        values = np.array([row[name] for row in rows], dtype=float)
        taus[name] = {
            "accuracy": round(kendall_tau(values, accuracy), 3),
            "accuracy_95": interval(values, accuracy),
            "negative_loss": round(kendall_tau(values, goodness), 3),
            "negative_loss_95": interval(values, goodness),
        }
    pairs = list(itertools.combinations(range(args.seeds), 2))
    between = {
        "accuracy": round(
            float(np.mean([kendall_tau(top1[:, i], top1[:, j]) for i, j in pairs])), 3
        ),
        "negative_loss": round(
            float(np.mean([kendall_tau(loss[:, i], loss[:, j]) for i, j in pairs])), 3
        ),
    }
    result = {
        "command": "python benchmarks/retrain/experiment.py",
        "settings": {
            "recipe": "quick",
            **RECIPE,
            **vars(args),
            "work": str(args.work),
            "band": list(args.band),
        },
        "machine": f"{platform.machine()}, 1 thread, {os.cpu_count()} cores",
        "versions": {name: metadata.version(name) for name in ("torch", "timm", "scikit-learn")},
        "kendall_tau": taus,
        "kendall_tau_between_seeds": between,
        "accuracy_mean": round(float(accuracy.mean()), 2),
        "accuracy_sd_between_architectures": round(float(accuracy.std(ddof=1)), 2),
        "accuracy_sd_between_seeds": round(float(top1.std(axis=1, ddof=1).mean()), 2),
        "training_seconds": round(sum(row["seconds"] for row in rows), 1),
        "architectures": rows,
    }
    path = HERE.parent / "results" / "retrain_digits.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({name: result[name] for name in list(result)[4:-1]}, indent=2))


if __name__ == "__main__":
    main()
