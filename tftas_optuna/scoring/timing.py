"""Measurement of the time that a score takes on this machine."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from tftas_optuna.devices import one_thread, resolve_device
from tftas_optuna.families import get_family
from tftas_optuna.metrics import get_indicator
from tftas_optuna.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace

_PASSES = 5
_PASS_SECONDS = 0.3
_PROBES = 4


def seconds_per_score(space: SearchSpace, indicator: str = "dss") -> dict[str, float]:
    """Measure the seconds that one score of a random candidate takes, by fidelity.

    Scores are computed as in a search, on a CPU with one thread. A pass has as many candidates as
    in a search, unless that would take long. The result is the median of five passes, without
    the norms of the weights, which a search computes once.
    """
    rng = np.random.default_rng(0)
    seconds = {}
    fidelities = get_family(space.family).supernet.fidelities
    for fidelity in get_indicator(indicator).fidelities:
        if fidelity not in fidelities:
            continue
        scorer = Scorer(space, indicator=indicator, fidelity=fidelity)
        with one_thread(scorer.device):
            probes = [space.sample(rng) for _ in range(min(_PROBES, scorer.batch_size))]
            scorer.batch(probes)
            estimate = _seconds(scorer, probes) / len(probes)
            count = max(1, min(scorer.batch_size, int(_PASS_SECONDS / estimate)))
            times = []
            for _ in range(_PASSES):
                archs = [space.sample(rng) for _ in range(count)]
                scorer.batch(archs)
                times.append(_seconds(scorer, archs) / count)
        seconds[fidelity] = median(times)
    return seconds


def machine() -> str:
    """Return the name of the device that scores are measured on."""
    device = resolve_device("auto")
    if device.type != "cpu":
        return str(torch.cuda.get_device_name(device))
    return "one thread of this CPU"


def _seconds(scorer: Scorer, archs: Sequence[Architecture]) -> float:
    start = time.perf_counter()
    scorer.batch(archs)
    return time.perf_counter() - start
