"""Tables of trained architectures, in the forms that people have them in."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tftas_optuna import Architecture, SearchSpace

SIZES: dict[str, Any] = {"img_size": 32, "num_classes": 10}


def draw(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
    """Draw different architectures."""
    rng = np.random.default_rng(seed)
    found: dict[Architecture, None] = {}
    while len(found) < count:
        found[space.sample(rng)] = None
    return list(found)


def accuracies(archs: Sequence[Architecture]) -> list[float]:
    """Make up accuracies that parameters explain for the most part."""
    rng = np.random.default_rng(len(archs))
    noise = rng.normal(size=len(archs))
    return [
        round(40 + arch.costs(**SIZES).n_params / 10_000 + float(e), 2)
        for arch, e in zip(archs, noise, strict=True)
    ]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write lists as ``3 4``, as the command line does."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {
                    name: " ".join(map(str, value)) if isinstance(value, list) else value
                    for name, value in row.items()
                }
            )
    return path


def write_json(path: Path, rows: object) -> Path:
    path.write_text(json.dumps(rows))
    return path


def table_rows(archs: Sequence[Architecture]) -> list[dict[str, Any]]:
    """Return a row for each architecture, all of its fields as columns."""
    return [
        {"trial": number, **arch.to_dict(), "top1": accuracy}
        for number, (arch, accuracy) in enumerate(zip(archs, accuracies(archs), strict=True))
    ]
