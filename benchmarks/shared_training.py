"""Members trained together, beside the same members trained alone, on real images.

    python benchmarks/shared_training.py
    python benchmarks/shared_training.py --data-dir cifar10 --space benchmarks/retrain/cifar.yaml \
        --train-images 2000 --val-images 2000 --epochs-alone 15 --epochs-together 30 \
        --epochs-fine 3 --results benchmarks/results/shared_training_cifar10.json

Two groups of members: spread over the front of an untrained search, and drawn from one narrow band
of parameters. Every member is trained alone; each group is trained together, as slices of one
supernet; and every member is fine-tuned from its slices. Accuracies are those of the images in
``val``. What is known without training the members alone (their accuracy and loss together, DSS,
``tftas``, parameters, depth, width) is compared with the mean accuracy alone: Kendall's tau with a
95 % bootstrap interval over the members, and the accuracy that is lost if it picks the member.

Without ``--data-dir`` it takes scikit-learn's digits. Stopped, it goes on where it was: trainings
are kept in ``--work``. Results are written after every seed of a group.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
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
from tftas_optuna.study.record import read_settings
from tftas_optuna.study.selection import spread

HERE = Path(__file__).parent
WAYS = ("alone", "short", "together", "fine")


def front_members(space: SearchSpace, count: int) -> list[Architecture]:
    """Return members spread over the front of an untrained search of 200 trials."""
    study = search(space, n_trials=200)
    return [
        candidate.architecture
        for candidate in spread(pareto_front(study), count, read_settings(study))
    ]


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


MEMBERS = {"front": front_members, "band": band_members}


def subset(data: Path, work: Path, counts: dict[str, int | None]) -> Path:
    """Link the first images of every class of a split, evenly, or all of them."""
    root = work / "-".join(f"{split}{count or ''}" for split, count in counts.items())
    for split, count in counts.items():
        classes = sorted(folder for folder in (data / split).iterdir() if folder.is_dir())
        for folder in classes:
            target = root / split / folder.name
            target.mkdir(parents=True, exist_ok=True)
            each = None if count is None else count // len(classes)
            for file in sorted(folder.iterdir())[:each]:
                link = target / file.name
                if not link.is_symlink():
                    link.symlink_to(file.resolve())
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


def run_seed(
    group: str,
    seed: int,
    members: list[Architecture],
    space: SearchSpace,
    data: Path,
    args: argparse.Namespace,
    clock: Clock,
) -> dict[str, list[float]]:
    """Train a group in the three ways with one seed; return accuracies, losses and seconds."""
    common: dict[str, Any] = {"data_dir": data, "recipe": args.recipe, "device": "cpu"}

    def each(way: str, epochs: int, warmup: int, key: str, **how: Any) -> list[float]:
        accuracies = []
        for i, arch in enumerate(members):
            name = f"{group}-{i:02d}-seed{seed}-{key}"
            overrides = {"epochs": epochs, "seed": seed, "warmup_epochs": warmup}
            result = clock.run(
                name,
                retrain,
                arch,
                img_size=space.img_size,
                overrides=overrides,
                out=args.work / name,
                **how,
                **common,
            )
            accuracies.append(result["top1"])
            seconds[way] += clock.seconds[name]
        return accuracies

    seconds = dict.fromkeys(WAYS, 0.0)
    epochs = args.epochs_alone
    alone = each("alone", epochs, max(1, epochs // 10), f"alone{epochs}")
    epochs = args.epochs_short
    short = each("short", epochs, max(1, epochs // 10), f"alone{epochs}")
    epochs = args.epochs_together
    key = f"{group}-seed{seed}-together{epochs}"
    shared = clock.run(
        key,
        retrain_shared,
        members,
        space=space,
        overrides={"epochs": epochs, "seed": seed, "warmup_epochs": max(1, epochs // 10)},
        out=args.work / key,
        **common,
    )
    seconds["together"] = clock.seconds[key]
    key = f"fine{args.epochs_fine}of{epochs}"
    fine = each("fine", args.epochs_fine, 0, key, weights=shared["out"])
    return {
        "alone": alone,
        "short": short,
        "together": [row["top1"] for row in shared["members"]],
        "loss_together": [row["loss"] for row in shared["members"]],
        "fine": fine,
        "seconds": [seconds[way] for way in WAYS],
    }


def scores(members: list[Architecture], space: SearchSpace) -> dict[str, np.ndarray]:
    """Return what is known of members without any training."""
    return {
        **{
            name: np.array(Scorer(space, indicator=name, device="cpu").batch(members))
            for name in ("dss", "tftas")
        },
        "parameters": np.array([space.costs(arch).n_params for arch in members], dtype=float),
        "depth": np.array([arch.depth for arch in members], dtype=float),
        "width": np.array([arch.embed_dim for arch in members], dtype=float),
    }


def compare(
    members: list[Architecture],
    untrained: dict[str, np.ndarray],
    seeds: list[dict[str, list[float]]],
) -> dict[str, Any]:
    """Compare all that is known of members with their mean accuracy alone."""
    tables = {name: np.array([seed[name] for seed in seeds]) for name in seeds[0]}
    truth = tables["alone"].mean(0)
    known = {
        "accuracy alone, short": tables["short"].mean(0),
        "accuracy together": tables["together"].mean(0),
        "loss together": -tables["loss_together"].mean(0),
        "accuracy fine-tuned": tables["fine"].mean(0),
        **untrained,
    }
    rows = {}
    for name, values in known.items():
        rows[name] = {
            "tau": round(kendall_tau(values, truth), 3),
            "tau_95": interval(values, truth),
            # Of equals, any may be picked.
            "regret": round(float(truth.max() - truth[values == values.max()].mean()), 2),
        }
    of_ways = {
        "accuracy alone, short": "short",
        "accuracy together": "together",
        "accuracy fine-tuned": "fine",
    }
    for name, way in of_ways.items():
        taus = [round(kendall_tau(values, truth), 3) for values in tables[way]]
        rows[name]["tau_of_each_seed"] = taus
    gains = {}
    for way in WAYS[1:]:
        differences = (tables[way] - tables["alone"]).mean(0)
        error = differences.std(ddof=1) / np.sqrt(len(differences))
        gains[way] = [round(float(value), 2) for value in (differences.mean(), 1.96 * error)]
    return {
        "means": {way: [round(float(value), 2) for value in tables[way].mean(1)] for way in WAYS},
        "gain_over_alone_and_95": gains,
        "processor_seconds": {
            way: [round(float(value), 1) for value in tables["seconds"][:, i]]
            for i, way in enumerate(WAYS)
        },
        "sd_between_members": round(float(truth.std(ddof=1)), 2),
        "regret_of_a_random_pick": round(float(truth.max() - truth.mean()), 2),
        "tau_between_seeds_alone": round(kendall_tau(*tables["alone"][:2]), 3)
        if len(seeds) > 1
        else None,
        "against_alone": rows,
        "members": [
            {
                "architecture": arch.to_dict(),
                **{
                    name: tables[name][:, i].round(4).tolist() for name in (*WAYS, "loss_together")
                },
                **{name: float(values[i]) for name, values in untrained.items()},
            }
            for i, arch in enumerate(members)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="images, train/CLASS and val/CLASS")
    parser.add_argument("--space", default=str(HERE / "retrain" / "digits.yaml"))
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--members", type=int, default=12, help="of each group")
    parser.add_argument("--groups", nargs="+", choices=MEMBERS, default=list(MEMBERS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--train-images", type=int, help="evenly by class; default: all")
    parser.add_argument("--val-images", type=int, help="evenly by class; default: all")
    parser.add_argument("--epochs-alone", type=int, default=30)
    parser.add_argument("--epochs-short", type=int, default=7, help="as dear as together")
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
    if args.train_images is not None or args.val_images is not None:
        data = subset(data, args.work, {"train": args.train_images, "val": args.val_images})
    clock = Clock(args.work / "processor_seconds.json")
    groups = {group: MEMBERS[group](space, args.members) for group in args.groups}
    untrained = {group: scores(members, space) for group, members in groups.items()}
    hidden = ("work", "results", "data_dir", "space")
    result: dict[str, Any] = {
        "command": f"python benchmarks/shared_training.py {shlex.join(sys.argv[1:])}".strip(),
        "settings": {
            **{name: value for name, value in vars(args).items() if name not in hidden},
            "space": space.to_dict(),
        },
        "machine": f"{platform.machine()}, 1 thread, {os.cpu_count()} cores",
        "versions": {name: metadata.version(name) for name in ("torch", "timm")},
    }
    trained: dict[str, list[dict[str, list[float]]]] = {group: [] for group in groups}
    for seed in range(args.seeds):
        for group, members in groups.items():
            trained[group].append(run_seed(group, seed, members, space, data, args, clock))
            result[group] = compare(members, untrained[group], trained[group])
            args.results.write_text(json.dumps(result, indent=2) + "\n")
    for group in groups:
        shown = {name: value for name, value in result[group].items() if name != "members"}
        print(group, json.dumps(shown, indent=2))


if __name__ == "__main__":
    main()
