"""What the learning rate and the recipe decide on few images, and what `lr: auto` finds.

    python benchmarks/learning_rate.py
    python benchmarks/learning_rate.py --data-dir cifar5k --space benchmarks/retrain/cifar.yaml \
        --results benchmarks/results/learning_rate_cifar10.json

The smallest and the largest member of a space are trained with the recipe ``quick`` at rates from
0.0005 to 0.016 and at ``auto``, and with several recipes as they are, with --epochs each. The
table has top-1 after the last epoch, the mean over seeds.

Without ``--data-dir`` it takes scikit-learn's digits. Stopped, it goes on where it was: trainings
are kept in ``--work``.
"""

from __future__ import annotations

import argparse
import platform
import statistics
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tftas_optuna import get_space, retrain
from tftas_optuna._writing import json_text

HERE = Path(__file__).parent
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
CASES: dict[str, dict[str, Any]] = {
    **{f"quick, lr {rate:g}": {"recipe": "quick", "lr": rate} for rate in RATES},
    "quick, lr auto": {"recipe": "quick", "lr": "auto"},
    "quick": {"recipe": "quick"},
    "autoformer, batch 64": {"recipe": "autoformer", "batch_size": 64, "amp": "none"},
    "small-data": {"recipe": "small-data"},
    "small-data, hflip 0": {"recipe": "small-data", "hflip": 0.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help="directory with train/CLASS and val/CLASS")
    parser.add_argument("--space", default=str(HERE / "retrain" / "digits.yaml"))
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--members", nargs="*", default=["smallest", "largest"])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("learning-rate"))
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data_dir = options.data_dir
    if data_dir is None:
        from retrain.images import write_digits

        data_dir = write_digits(options.work / "digits")
    space = get_space(options.space)
    rows = []
    for member in options.members:
        arch = getattr(space, member)()
        for case in options.cases:
            results = []
            for seed in range(options.seeds):
                values = {**CASES[case], "epochs": options.epochs, "seed": seed}
                recipe = values.pop("recipe")
                name = f"{space.name}-{member}-{case}-{seed}".replace(", ", "-").replace(" ", "-")
                result = retrain(
                    arch,
                    data_dir=data_dir,
                    recipe=recipe,
                    overrides=values,
                    img_size=space.img_size,
                    out=options.work / name,
                    device="cpu",
                )
                results.append(result)
            row = {
                "member": member,
                "n_params": results[0]["n_params"],
                "case": case,
                "top1": [round(result["top1"], 2) for result in results],
                "lr": [result.get("lr") for result in results],
                "seconds": [result["seconds"] for result in results],
            }
            rows.append(row)
            found = ", ".join(f"{lr:.2g}" for lr in row["lr"] if lr is not None)
            print(
                f"{member:9} {case:22} {statistics.fmean(row['top1']):6.2f} %"
                + (f"   lr {found}" if found else ""),
                flush=True,
            )
    if options.results is not None:
        about = {
            "space": space.name,
            "epochs": options.epochs,
            "machine": platform.processor() or platform.machine(),
            "versions": {name: metadata.version(name) for name in ("torch", "timm")},
        }
        options.results.write_text(json_text({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
