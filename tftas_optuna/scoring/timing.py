"""What a score costs on this machine."""

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
    """Measure the time of one score of random candidates, by each fidelity that there is.

    It is measured as a search scores, on a CPU with one thread. A pass takes as many candidates
    as a search gives it, unless that would take long; the median of five counts. Norms of the
    weights, computed once in a study, are left out.
    """
    rng = np.random.default_rng(0)
    found = {}
    fidelities = get_family(space.family).supernet.fidelities
    for fidelity in get_indicator(indicator).fidelities:
        if fidelity not in fidelities:
            continue
        scorer = Scorer(space, indicator=indicator, fidelity=fidelity)
        with one_thread(scorer.device):
            probes = [space.sample(rng) for _ in range(min(_PROBES, scorer.batch_size))]
            scorer.batch(probes)
            each = _seconds(scorer, probes) / len(probes)
            count = max(1, min(scorer.batch_size, int(_PASS_SECONDS / each)))
            times = []
            for _ in range(_PASSES):
                archs = [space.sample(rng) for _ in range(count)]
                scorer.batch(archs)
                times.append(_seconds(scorer, archs) / count)
        found[fidelity] = median(times)
    return found


def machine() -> str:
    """Say where scores are measured."""
    device = resolve_device("auto")
    if device.type != "cpu":
        return str(torch.cuda.get_device_name(device))
    return "one thread of this CPU"


def _seconds(scorer: Scorer, archs: Sequence[Architecture]) -> float:
    start = time.perf_counter()
    scorer.batch(archs)
    return time.perf_counter() - start
