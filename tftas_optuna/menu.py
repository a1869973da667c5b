"""The built-in costs and indicators: one for each public file of two folders.

A file assigns its metric to ``METRIC``. It is loaded on first use, because many files need
PyTorch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from tftas_optuna.metrics import Metric
from tftas_optuna.metrics.registry import (
    COSTS_GROUP,
    INDICATORS_GROUP,
    METRICS,
    read_cost,
    read_indicator,
)


class Folder(Mapping[str, Metric]):
    """The metrics of a folder, by file name.

    Args:
        package: The package name of the folder; it is imported with its first file.
    """

    def __init__(self, package: str) -> None:
        self._package = package

    @cached_property
    def _names(self) -> tuple[str, ...]:
        folder = Path(__file__).parents[1].joinpath(*self._package.split("."))
        names = (file.stem for file in folder.glob("*.py"))
        return tuple(sorted(name for name in names if not name.startswith("_")))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Metric:
        metric: Metric = importlib.import_module(f"{self._package}.{name}").METRIC
        assert metric.name == name, f"{self._package}.{name} holds the metric {metric.name}"
        return metric


METRICS.fill(COSTS_GROUP, Folder("tftas_optuna.costs"), read_cost)
METRICS.fill(INDICATORS_GROUP, Folder("tftas_optuna.indicators.measures"), read_indicator)
