"""Scores, costs and shapes of the architectures of a table, and what a score takes."""

from __future__ import annotations

import platform
from importlib import metadata
from itertools import cycle
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch

from tftas_optuna.correlate.cache import identity
from tftas_optuna.correlate.shapes import shape_columns
from tftas_optuna.devices import resolve_device
from tftas_optuna.indicators.task import fidelity_of, scorers_of
from tftas_optuna.indicators.timing import seconds_of
from tftas_optuna.metrics import Meters
from tftas_optuna.search.execution import open_pool, scoring_task
from tftas_optuna.study.evaluations import Evaluations
from tftas_optuna.study.settings import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.correlate.cache import ScoreCache
    from tftas_optuna.search.execution import Execution
    from tftas_optuna.study.settings import StudySettings

    Tell = Callable[[str, int, int], None]

# Settings that scores do not depend on. Whatever comes to them later counts, until it stands here.
_NO_MATTER = (
    "approximated",
    "bounds",
    "deployment",
    "fidelity",
    "objectives",
    "population_size",
    "sampler",
    "seed",
    "space",
)


def ground_of(settings: StudySettings) -> dict[str, Any]:
    """Return what all scores of a study depend on, beside the indicator and its fidelity."""
    return {name: v for name, v in settings.attributes().items() if name not in _NO_MATTER}


def measure_columns(
    archs: Sequence[Architecture],
    settings: StudySettings,
    execution: Execution,
    cache: ScoreCache,
    tell: Tell,
) -> dict[str, tuple[float, ...]]:
    """Measure architectures by all that accuracies are compared with.

    Scores that the cache does not have are computed, those of several indicators in one pass, and
    put there as they come.

    Args:
        archs: The architectures, each once.
        settings: Indicators, as objectives, and all that they depend on.
        execution: Where to score.
        cache: What is known.
        tell: Called with ``"scoring"``, how many are done, and of how many. What it raises ends
            the work; what is done by then is kept.

    Returns:
        By name: parameters, MACs, depth and width, then the indicators.
    """
    names = settings.indicators
    known = {name: cache.scores(score_key(settings, name)) for name in names}
    keys = {arch: identity(arch) for arch in archs}
    missing = {
        arch: tuple(name for name in names if key not in known[name]) for arch, key in keys.items()
    }
    missing = {arch: lacking for arch, lacking in missing.items() if lacking}
    pool = open_pool(settings, execution) if missing else None
    if pool is not None:
        try:
            n_done = 0
            for lacking in dict.fromkeys(missing.values()):
                wanted = {arch for arch in missing if missing[arch] == lacking}
                parts = pool.scores(
                    list(archs), wanted, fidelity=settings.fidelity, indicators=lacking
                )
                for part in parts:
                    for arch, scores in part.items():
                        known_by = {name: float(mean(scores[name])) for name in lacking}
                        for name, value in known_by.items():
                            known[name].setdefault(keys[arch], value)
                    n_done += len(part.keys() & wanted)
                    if part:
                        cache.changed()
                    tell("scoring", n_done, len(missing))
        finally:
            cache.save()
            pool.close()
    evaluations = Evaluations(settings, Meters(settings.costs, settings.space, settings.target))
    columns: dict[str, list[float]] = {name: [] for name in (*ALWAYS, *names)}
    for arch, key in keys.items():
        evaluations.remember(arch, {name: known[name][key] for name in names})
        evaluation = evaluations[arch]
        values = dict(zip(settings.objectives, evaluation.values, strict=True))
        for name, value in {**evaluation.attributes, **values}.items():
            columns[name].append(value)
    counts = {name: tuple(columns.pop(name)) for name in ALWAYS}
    return {**counts, **shape_columns(archs), **{n: tuple(v) for n, v in columns.items()}}


def measure_seconds(
    archs: Sequence[Architecture],
    settings: StudySettings,
    execution: Execution,
    cache: ScoreCache,
    tell: Tell,
) -> dict[str, float]:
    """Measure the time of one score by each indicator alone.

    It is measured in this process, on the device of the execution (a CPU with one thread), on some
    of the architectures; together indicators take less, as they share passes. All supernets that a
    score is averaged over count.
    """
    known = {name: cache.seconds(score_key(settings, name)) for name in settings.indicators}
    where = _machine(execution.device)
    task = scoring_task(settings, execution.device)
    for done, name in enumerate(settings.indicators):
        tell("times", done, len(settings.indicators))
        if where not in known[name]:
            (scorer,) = scorers_of(task._replace(indicators=(name,)))
            known[name][where] = seconds_of(scorer, cycle(archs))
            cache.changed()
    cache.save()
    return {name: seconds[where] for name, seconds in known.items()}


def score_key(settings: StudySettings, indicator: str) -> dict[str, Any]:
    """Return what the scores of an indicator are known by in a cache."""
    return {
        "indicator": indicator,
        "fidelity": fidelity_of(indicator, settings.fidelity),
        # A later release may compute otherwise.
        "version": metadata.version("tftas-optuna"),
        **ground_of(settings),
    }


def _machine(name: str) -> str:
    device = resolve_device(name)
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{kind} of {platform.node()}"
