"""What the steps of ``python benchmarks/cuda`` are given, and what they yield."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
# At the end: a folder named cuda must not hide the package of that name.
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests")]


class Plan(NamedTuple):
    """Where to measure, and whether a little of everything is enough."""

    device: str
    quick: bool

    @property
    def on_cuda(self) -> bool:
        return self.device != "cpu"

    def of(self, usual: Any, quick: Any) -> Any:
        """Choose by how much is wanted."""
        return quick if self.quick else usual


class Skipped(Exception):
    """The step does not apply here."""


class Found(NamedTuple):
    """One finding: a line to read, the numbers, and whether it is as it must be."""

    line: str
    data: dict[str, Any]
    right: bool = True


Step = Callable[[Plan], Iterator[Found]]


def spaces(plan: Plan) -> list[str]:
    """Name the spaces to score."""
    usual = ["autoformer-tiny", "autoformer-small", "autoformer-base", "pit-tiny"]
    return plan.of(usual, ["autoformer-tiny", "pit-tiny"])


def sample(name: str, count: int) -> tuple[Any, list[Any]]:
    """Draw candidates of a space."""
    import numpy as np

    from tftas_optuna import get_space

    space, rng = get_space(name), np.random.default_rng(0)
    return space, [space.sample(rng) for _ in range(count)]
