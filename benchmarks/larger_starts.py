"""Smaller Vision Transformers started from a larger one, beside others, on real images.

    python benchmarks/larger_starts.py
    python benchmarks/larger_starts.py --data-dir cifar10 --img-size 32 --patch-size 4 \
        --train-images 5000 --val-images 2000 --epochs-teacher 30 --epochs 3 15 --seeds 2 \
        --results benchmarks/results/larger_starts_cifar10.json

A larger network is trained. Smaller ones are then trained for few and for many epochs: from
scratch; with the larger one as teacher (Hinton et al., Distilling the Knowledge in a Neural
Network, 2015); and as slices of the larger one, with its channels, heads and hidden units in each
order and its first or evenly spaced blocks. The default, an even order and the first blocks, is
also trained with the teacher. All have the recipe ``quick``. Accuracies are those of the images in
``val``.

Without ``--data-dir`` it takes scikit-learn's digits. Stopped, it goes on where it was: trainings
are kept in ``--work``. Results are written after every seed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared_training import subset

from tftas_optuna import AutoFormerArchitecture, retrain

HERE = Path(__file__).parent
HEAD_DIM = 16
TEACHER = (96, 6)
STUDENTS = {"48 x 4": (48, 4), "48 x 6": (48, 6), "96 x 3": (96, 3), "32 x 3": (32, 3)}
ORDERS = ("first", "even", "magnitude")
BLOCKS = ("first", "even")


def plain(width: int, depth: int, patch_size: int) -> AutoFormerArchitecture:
    """Return a plain Vision Transformer as timm builds it."""
    return AutoFormerArchitecture(
        width,
        num_heads=(width // HEAD_DIM,) * depth,
        mlp_ratio=(4.0,) * depth,
        head_dim=HEAD_DIM,
        patch_size=patch_size,
        relative_position=False,
        global_pool="token",
        layer_norm_eps=1e-6,
    )


def ways(student: tuple[int, int], teacher: Path) -> dict[str, dict[str, Any]]:
    """Return the ways to train a student, as arguments of ``retrain``."""
    found: dict[str, dict[str, Any]] = {
        "scratch": {},
        "distilled": {"overrides": {"teacher": f"local-dir:{teacher}"}},
    }
    for order in ORDERS if student[0] < TEACHER[0] else ORDERS[:1]:
        for blocks in BLOCKS if student[1] < TEACHER[1] else BLOCKS[:1]:
            source = f"timm:local-dir:{teacher},order={order},blocks={blocks}"
            found[f"order {order}, blocks {blocks}"] = {"supernet": source}
    order = "even" if student[0] < TEACHER[0] else "first"
    start = found[f"order {order}, blocks first"]
    found[f"order {order}, blocks first, distilled"] = {**found["distilled"], **start}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, help="images, train/CLASS and val/CLASS")
    parser.add_argument("--img-size", type=int, default=8)
    parser.add_argument("--patch-size", type=int, default=2)
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-images", type=int, help="evenly by class; default: all")
    parser.add_argument("--val-images", type=int, help="evenly by class; default: all")
    parser.add_argument("--epochs-teacher", type=int, default=40)
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 20])
    parser.add_argument("--work", type=Path, default=Path("larger_starts"))
    parser.add_argument(
        "--results", type=Path, default=HERE / "results" / "larger_starts_digits.json"
    )
    args = parser.parse_args()

    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.data_dir is None:
        sys.path.insert(0, str(HERE / "retrain"))
        from images import write_digits

        data = write_digits(args.work / "digits")
    else:
        data = args.data_dir
    if args.train_images is not None or args.val_images is not None:
        data = subset(data, args.work, {"train": args.train_images, "val": args.val_images})

    def train(name: str, size: tuple[int, int], epochs: int, seed: int, **how: Any) -> float:
        overrides = {"epochs": epochs, "seed": seed, "warmup_epochs": max(1, epochs // 10)}
        overrides |= how.pop("overrides", {})
        result = retrain(
            plain(*size, args.patch_size),
            data_dir=data,
            recipe="quick",
            overrides=overrides,
            img_size=args.img_size,
            out=args.work / name,
            device="cpu",
            **how,
        )
        print(f"{name}: {result['top1']:.2f} %", file=sys.stderr, flush=True)
        return float(result["top1"])

    hidden = ("work", "results", "data_dir")
    result: dict[str, Any] = {
        "command": f"python benchmarks/larger_starts.py {shlex.join(sys.argv[1:])}".strip(),
        "settings": {name: value for name, value in vars(args).items() if name not in hidden},
        "machine": f"{platform.machine()}, 1 thread, {os.cpu_count()} cores",
        "versions": {name: metadata.version(name) for name in ("torch", "timm")},
        "teacher": [],
    }
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in range(args.seeds):
        name = f"teacher-seed{seed}"
        result["teacher"].append(train(name, TEACHER, args.epochs_teacher, seed))
        (teacher,) = (path.parent for path in (args.work / name).glob("*/config.json"))
        for student in args.students:
            for way, how in ways(STUDENTS[student], teacher.resolve()).items():
                for epochs in args.epochs:
                    key = f"{student}-{way}-{epochs}-seed{seed}".replace(" ", "").replace(",", "-")
                    top1 = train(key, STUDENTS[student], epochs, seed, **dict(how))
                    row = rows.setdefault(f"{student}, {epochs} epochs", {})
                    row.setdefault(way, []).append(round(top1, 2))
        result["top1"] = rows
        result["means"] = {
            row: {way: round(float(np.mean(values)), 2) for way, values in table.items()}
            for row, table in rows.items()
        }
        args.results.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({"teacher": result["teacher"], **result["means"]}, indent=2))


if __name__ == "__main__":
    main()
