"""Members trained together, beside the same members trained alone, on real images.

    python benchmarks/shared_training.py
    python benchmarks/shared_training.py --data-dir cifar10 --space examples/spaces/cifar.yaml \
        --train-images 5000 --results benchmarks/results/shared_training_cifar10.json

Two groups of members: spread over the front of an untrained search, and drawn from one narrow band
of parameters. Every member is trained alone; each group is trained together, as slices of one
supernet; and every member is fine-tuned from its slices. Accuracies are those of the images in
``val``. What is known without training the members alone (their accuracies together, DSS,
``tftas``, parameters, depth, width) is compared with the mean accuracy alone: Kendall's tau with a
95 % bootstrap interval over the members, and the accuracy that is lost if it picks the member.

Without ``--data-dir`` it takes scikit-learn's digits. Stopped, it goes on where it was: trainings
are kept in ``--work``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tftas_optuna import (
    Architecture,
    Scorer,
    SearchSpace,
    get_space,
    pareto_front,
    retrain,
    retrain_shared,
    search,
)
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.study.selection import spread

HERE = Path(__file__).parent


def front_members(space: SearchSpace, count: int) -> list[Architecture]:
    """Return members spread over the front of an untrained search of 200 trials."""
    study = search(space, n_trials=200)
    return [candidate.architecture for candidate in spread(pareto_front(study), count)]


def band_members(space: SearchSpace, count: int, width: float = 0.05) -> list[Architecture]:
    """Draw members whose parameters lie around the geometric mean of the space's extremes."""
    ends = [space.costs(arch).n_params for arch in (space.smallest(), space.largest())]
    middle = float(np.sqrt(ends[0] * ends[1]))
    rng = np.random.default_rng(0)
    drawn: dict[Architecture, None] = {}
    while len(drawn) < count:
        arch = space.sample(rng)
        if abs(space.costs(arch).n_params / middle - 1) <= width:
            drawn[arch] = None
    return list(drawn)


def subset(data: Path, work: Path, count: int) -> Path:
    """Link the first images of every class, evenly, beside all images to evaluate on."""
    root = work / f"first{count}"
    classes = sorted(folder for folder in (data / "train").iterdir() if folder.is_dir())
    for folder in classes:
        target = root / "train" / folder.name
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.iterdir())[: count // len(classes)]:
            link = target / file.name
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    if not (root / "val").is_symlink():
        (root / "val").symlink_to((data / "val").resolve())
    return root


def interval(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Bootstrap a 95 % interval of tau over the members."""
    rng = np.random.default_rng(0)
    i, j = np.triu_indices(len(first), k=1)
    taus = []
    for _ in range(2000):
        chosen = rng.integers(len(first), size=len(first))
        a, b = first[chosen], second[chosen]
        pairs = chosen[i] != chosen[j]
        taus.append((np.sign(a[i] - a[j]) * np.sign(b[i] - b[j]))[pairs].mean())
    return [round(float(value), 3) for value in np.percentile(taus, [2.5, 97.5])]


class Clock:
    """Processor seconds of what was run, kept over interruptions.

    Args:
        path: The file to keep them in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def run(
        self, key: str, function: Callable[..., dict[str, Any]], *args: Any, **how: Any
    ) -> Any:
        """Call a function that returns at once if it has run before."""
        start = time.process_time()
        result = function(*args, **how)
        if key not in self.seconds:
            self.seconds[key] = time.process_time() - start
            self._path.write_text(json.dumps(self.seconds))
        print(f"{key}: {result['top1']:.2f} %, {self.seconds[key]:.0f} s", file=sys.stderr)
        return result


def run_group(
    group: str,
    members: list[Architecture],
    space: SearchSpace,
    data: Path,
    args: argparse.Namespace,
    clock: Clock,
) -> dict[str, Any]:
    """Train a group in the three ways, and compare."""
    alone, together, fine = (np.zeros((args.seeds, len(members))) for _ in range(3))
    seconds = {"alone": 0.0, "together": 0.0, "fine": 0.0}
    for seed in range(args.seeds):
        shared: dict[str, Any] = {"data_dir": data, "recipe": args.recipe, "device": "cpu"}

        def overrides(epochs: int, seed: int = seed) -> dict[str, Any]:
            return {"epochs": epochs, "seed": seed, "warmup_epochs": max(1, epochs // 10)}

        for i, arch in enumerate(members):
            key = f"{group}-{i:02d}-seed{seed}-alone{args.epochs_alone}"
            result = clock.run(
                key,
                retrain,
                arch,
                img_size=space.img_size,
                overrides=overrides(args.epochs_alone),
                out=args.work / key,
                **shared,
            )
            alone[seed, i] = result["top1"]
            seconds["alone"] += clock.seconds[key]
        key = f"{group}-seed{seed}-together{args.epochs_together}"
        result = clock.run(
            key,
            retrain_shared,
            members,
            space=space,
            overrides=overrides(args.epochs_together),
            out=args.work / key,
            **shared,
        )
        together[seed] = [member["top1"] for member in result["members"]]
        seconds["together"] += clock.seconds[key]
        weights = result["out"]
        for i, arch in enumerate(members):
            key = f"{group}-{i:02d}-seed{seed}-fine{args.epochs_fine}of{args.epochs_together}"
            result = clock.run(
                key,
                retrain,
                arch,
                img_size=space.img_size,
                weights=weights,
                overrides={**overrides(args.epochs_fine), "warmup_epochs": 0},
                out=args.work / key,
                **shared,
            )
            fine[seed, i] = result["top1"]
            seconds["fine"] += clock.seconds[key]
    costs = [space.costs(arch) for arch in members]
    truth = alone.mean(0)
    known = {
        "accuracy together": together.mean(0),
        "accuracy fine-tuned": fine.mean(0),
        **{
            name: np.array(Scorer(space, indicator=name, device="cpu").batch(members))
            for name in ("dss", "tftas")
        },
        "parameters": np.array([cost.n_params for cost in costs], dtype=float),
        "depth": np.array([arch.depth for arch in members], dtype=float),
        "width": np.array([arch.embed_dim for arch in members], dtype=float),
    }
    return {
        "members": [
            {
                "architecture": arch.to_dict(),
                "n_params": cost.n_params,
                "alone": alone[:, i].tolist(),
                "together": together[:, i].tolist(),
                "fine": fine[:, i].tolist(),
                "dss": float(known["dss"][i]),
                "tftas": float(known["tftas"][i]),
            }
            for i, (arch, cost) in enumerate(zip(members, costs, strict=True))
        ],
        "means": {
            name: [round(float(value), 2) for value in table.mean(1)]
            for name, table in (("alone", alone), ("together", together), ("fine", fine))
        },
        "processor_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "sd_between_members": round(float(truth.std(ddof=1)), 2),
        "tau_between_seeds_alone": None
        if args.seeds < 2
        else round(kendall_tau(alone[0], alone[1]), 3),
        "against_alone": {
            name: {
                "tau": round(kendall_tau(values, truth), 3),
                "tau_95": interval(values, truth),
                "regret": round(float(truth.max() - truth[int(values.argmax())]), 2),
            }
            for name, values in known.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="images, train/CLASS and val/CLASS")
    parser.add_argument("--space", default=str(HERE / "retrain" / "digits.yaml"))
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--members", type=int, default=12, help="of each group")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--train-images", type=int, help="evenly by class; default: all")
    parser.add_argument("--epochs-alone", type=int, default=30)
    parser.add_argument("--epochs-together", type=int, default=60)
    parser.add_argument("--epochs-fine", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("shared_training"))
    parser.add_argument(
        "--results", type=Path, default=HERE / "results" / "shared_training_digits.json"
    )
    args = parser.parse_args()

    torch.set_num_threads(1)
    space = get_space(args.space)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.data_dir is None:
        sys.path.insert(0, str(HERE / "retrain"))
        from images import write_digits

        data = write_digits(args.work / "digits")
    else:
        data = args.data_dir
    if args.train_images is not None:
        data = subset(data, args.work, args.train_images)
    clock = Clock(args.work / "processor_seconds.json")
    groups = {
        "front": front_members(space, args.members),
        "band": band_members(space, args.members),
    }
    settings = {name: str(value) for name, value in vars(args).items() if name != "work"}
    result: dict[str, Any] = {
        "command": "python benchmarks/shared_training.py",
        "settings": settings,
        "machine": f"{platform.machine()}, 1 thread, {os.cpu_count()} cores",
        "versions": {name: metadata.version(name) for name in ("torch", "timm")},
    }
    for group, members in groups.items():
        result[group] = run_group(group, members, space, data, args, clock)
        shown = {name: value for name, value in result[group].items() if name != "members"}
        print(group, json.dumps(shown, indent=2))
    args.results.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
