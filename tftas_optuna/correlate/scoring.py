"""Scores, costs and shapes of the architectures of a table, and the time of a score."""

from __future__ import annotations

import dataclasses
import math
import platform
import time
from functools import partial
from itertools import cycle
from statistics import mean, median
from typing import TYPE_CHECKING, NamedTuple

import torch

from tftas_optuna.architecture.shape import shape_columns
from tftas_optuna.correlate.cache import identity
from tftas_optuna.correlate.grounds import score_key
from tftas_optuna.devices import resolve_device
from tftas_optuna.indicators.fusion import check_reference
from tftas_optuna.metrics import Meters, NotFiniteError
from tftas_optuna.scoring.conditions import batches_seen
from tftas_optuna.scoring.panel import Scores
from tftas_optuna.scoring.reference import relative_indicators, score_reference
from tftas_optuna.scoring.task import ScoringTask, describe_worker, divide, score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.correlate.cache import ScoreCache
    from tftas_optuna.correlate.files import Tell
    from tftas_optuna.correlate.trained import Given
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.scoring.execution import Execution
    from tftas_optuna.scoring.pool import ScoresOf, ScoringPool
    from tftas_optuna.scoring.task import BasisKey
    from tftas_optuna.study.settings import StudySettings

_TIMED_PASSES = 3
_PASS_SECONDS = 0.3


class Measures(NamedTuple):
    """All values that accuracies are compared with.

    Attributes:
        columns: Values of the architectures by name: parameters, MACs, depth and width, then the
            indicators; None where a score is not finite.
        seconds: Time of one score by each indicator alone.
        undefined: Why indicators are not defined at all, by name.
    """

    columns: dict[str, tuple[float | None, ...]]
    seconds: dict[str, float]
    undefined: Mapping[str, str]


def measure(
    archs: Sequence[Architecture],
    settings: StudySettings,
    execution: Execution,
    cache: ScoreCache,
    given: Given,
    tell: Tell,
) -> Measures:
    """Measure architectures.

    Missing scores are computed, those of several indicators in one pass, and cached as they come.
    Then each indicator is timed alone, since together they take less time: in this process, on the
    device of the execution (a CPU with one thread), over all supernets that a score is averaged
    over. A score that is not finite is missing; so are all scores of a fusion if one of its parts
    has hardly any finite value in the reference sample.

    Args:
        archs: The architectures, each once.
        settings: Indicators, as objectives, and all that they depend on.
        execution: Where to score.
        cache: Scores of earlier runs.
        given: Scores that a study has already.
        tell: Called with ``"reference sample"``, ``"scoring"`` or ``"times"``, the number done and
            the total. An exception that it raises ends the work; finished scores are kept.
    """
    names = settings.indicators
    where = _machine_name(execution.device)
    times = {name: cache.seconds(score_key(settings, name)) for name in names}
    scores = _Scores(settings, cache, given.scores)
    untimed = [name for name in names if where not in times[name]]
    undefined: dict[str, str] = {}
    if untimed or scores.missing(archs, names):
        task = ScoringTask.of(settings.conditions, names, settings.fidelity)
        with execution.open_pool(settings.conditions, batches_seen(names)) as pool:
            try:
                reference = score_reference(
                    pool,
                    task,
                    given.reference,
                    settings.target,
                    score=partial(_score_sample, pool, settings, cache, tell),
                    strict=False,
                )
                task = task.looking_at(reference)
                undefined = _undefined(task, reference)
                defined = [name for name in names if name not in undefined]
                scores.complete(pool, task, archs, defined, "scoring", tell)
                for done, name in enumerate(names):
                    tell("times", done, len(names))
                    if name in untimed and name not in undefined:
                        alone = task.only([name])
                        times[name][where] = _seconds_alone(pool.key, alone, archs)
                        cache.changed()
            finally:
                cache.save()
    meters = Meters(settings.costs, settings.space, settings.target)
    columns = {
        **{name: tuple(meters.cost(name, arch) for arch in archs) for name in settings.costs},
        **shape_columns(archs),
        **{name: tuple(scores.value(name, arch) for arch in archs) for name in names},
    }
    return Measures(
        columns,
        {name: of[where] for name, of in times.items() if where in of},
        undefined,
    )


def _undefined(task: ScoringTask, reference: Reference) -> dict[str, str]:
    """Return why fusions are undefined, by name: a part has hardly any score in the sample."""
    undefined = {}
    for indicator in relative_indicators(task):
        try:
            check_reference(indicator, reference)
        except NotFiniteError as error:
            undefined[indicator.name] = str(error)
    return undefined


def _score_sample(
    pool: ScoringPool,
    settings: StudySettings,
    cache: ScoreCache,
    tell: Tell,
    sample: list[Architecture],
    parts: tuple[str, ...],
) -> ScoresOf:
    """Score the reference sample of fusions, always exactly."""
    scores = _Scores(dataclasses.replace(settings, fidelity="exact"), cache, {})
    task = ScoringTask.of(settings.conditions, parts, "exact")
    scores.complete(pool, task, sample, parts, "reference sample", tell)
    return {arch: Scores({part: scores.by_seed(part, arch) for part in parts}) for arch in sample}


class _Scores:
    """Scores of one table, by indicator and architecture.

    Args:
        settings: What they depend on.
        cache: Where they are kept.
        given: Scores that a study has already, by indicator.
    """

    def __init__(
        self,
        settings: StudySettings,
        cache: ScoreCache,
        given: Mapping[str, Mapping[Architecture, float]],
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._given = given
        self._tables: dict[str, dict[str, list[float]]] = {}

    def value(self, name: str, arch: Architecture) -> float | None:
        """Return a score, the mean over the seeds; None where it is not finite."""
        given = self._given.get(name, {}).get(arch)
        if given is not None:
            return given
        average = mean(self._cached(name).get(identity(arch), [math.nan]))
        return average if math.isfinite(average) else None

    def by_seed(self, name: str, arch: Architecture) -> tuple[float, ...]:
        """Return the scores of every seed."""
        return tuple(self._cached(name)[identity(arch)])

    def missing(
        self, archs: Sequence[Architecture], names: Sequence[str]
    ) -> dict[Architecture, tuple[str, ...]]:
        """Return, for each architecture without all scores, the indicators that it lacks."""
        cached = {name: self._cached(name).keys() for name in names}
        missing = {}
        for arch in archs:
            key = identity(arch)
            lacking = tuple(
                n for n in names if key not in cached[n] and arch not in self._given.get(n, {})
            )
            if lacking:
                missing[arch] = lacking
        return missing

    def complete(
        self,
        pool: ScoringPool,
        task: ScoringTask,
        archs: Sequence[Architecture],
        names: Sequence[str],
        step: str,
        tell: Tell,
    ) -> None:
        """Compute the scores that are missing, by the indicators that each architecture lacks."""
        missing = self.missing(archs, names)
        n_done = 0
        for lacking in dict.fromkeys(missing.values()):
            incomplete = {arch for arch, lacks in missing.items() if lacks == lacking}
            # All, so that what runs together does not depend on what is in the cache.
            for part in pool.scores(task.only(lacking), list(archs), incomplete):
                for arch, scores in part.items():
                    for name, by_seed in scores.items():
                        values = [float(value) for value in by_seed]
                        self._cached(name).setdefault(identity(arch), values)
                if part:
                    self._cache.changed()
                n_done += len(part.keys() & incomplete)
                tell(step, n_done, len(missing))

    def _cached(self, name: str) -> dict[str, list[float]]:
        if name not in self._tables:
            self._tables[name] = self._cache.scores(score_key(self._settings, name))
        return self._tables[name]


def _seconds_alone(key: BasisKey, task: ScoringTask, archs: Sequence[Architecture]) -> float:
    """Measure how long a score by the one indicator of a task takes, in this process.

    On a CPU that is one thread. A pass takes as many candidates as a search gives it, unless that
    would take long; the median of three counts. What is computed once for a whole supernet is left
    out.
    """
    parts = cycle(divide(task, describe_worker(key), archs))
    score(key, task, next(parts)[:1])
    seconds = _seconds_per_score(key, task, next(parts)[:1])
    size = max(1, int(_PASS_SECONDS / seconds))
    return median(_seconds_per_score(key, task, next(parts)[:size]) for _ in range(_TIMED_PASSES))


def _seconds_per_score(key: BasisKey, task: ScoringTask, archs: Sequence[Architecture]) -> float:
    start = time.perf_counter()
    score(key, task, archs)
    return (time.perf_counter() - start) / len(archs)


def _machine_name(device: str) -> str:
    """Name the device and the machine that times were measured on."""
    resolved = resolve_device(device)
    kind = torch.cuda.get_device_name(resolved) if resolved.type == "cuda" else resolved.type
    return f"{kind} of {platform.node()}"
