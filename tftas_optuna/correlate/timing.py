"""What a score by one indicator alone takes."""

from __future__ import annotations

import platform
import time
from itertools import cycle
from statistics import median
from typing import TYPE_CHECKING

import torch

from tftas_optuna.devices import resolve_device
from tftas_optuna.scoring.task import divide, score, visit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.scoring.task import Home, ScoringTask

_PASSES = 3
_PASS_SECONDS = 0.3


def seconds_per_score(home: Home, task: ScoringTask, archs: Sequence[Architecture]) -> float:
    """Measure the time that a task takes for one candidate, in this process.

    On a CPU that is one thread. A pass takes as many candidates as a search gives it, unless that
    would take long; the median of three counts. Of a supernet, what is computed once is left out.
    """
    parts = cycle(divide(task, visit(home), archs))
    score(home, task, next(parts)[:1])
    each = _seconds(home, task, next(parts)[:1])
    size = max(1, int(_PASS_SECONDS / each))
    return median(_seconds(home, task, next(parts)[:size]) for _ in range(_PASSES))


def machine_name(device: str) -> str:
    """Return what times are known by: the device, and the machine it is in."""
    resolved = resolve_device(device)
    kind = torch.cuda.get_device_name(resolved) if resolved.type == "cuda" else resolved.type
    return f"{kind} of {platform.node()}"


def _seconds(home: Home, task: ScoringTask, archs: Sequence[Architecture]) -> float:
    start = time.perf_counter()
    score(home, task, archs)
    return (time.perf_counter() - start) / len(archs)
