"""Scores, costs and shapes of the architectures of a table, and what a score takes."""

from __future__ import annotations

from importlib import metadata
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

from tftas_optuna.correlate.cache import identity
from tftas_optuna.correlate.shapes import shape_columns
from tftas_optuna.correlate.timing import machine_name, seconds_per_score
from tftas_optuna.indicators.task import fidelity_of
from tftas_optuna.metrics import Meters
from tftas_optuna.search.execution import open_pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.correlate.cache import ScoreCache
    from tftas_optuna.correlate.files import Tell
    from tftas_optuna.search.execution import Execution
    from tftas_optuna.search.executors import ScoresOf, ScoringPool
    from tftas_optuna.study.settings import StudySettings

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


class Measures(NamedTuple):
    """All that accuracies are compared with.

    Attributes:
        columns: Values of the architectures by name: parameters, MACs, depth and width, then the
            indicators.
        seconds: Time of one score by each indicator alone.
    """

    columns: dict[str, tuple[float, ...]]
    seconds: dict[str, float]


def measure(
    archs: Sequence[Architecture],
    settings: StudySettings,
    execution: Execution,
    cache: ScoreCache,
    tell: Tell,
) -> Measures:
    """Measure architectures.

    Scores that the cache does not have are computed, those of several indicators in one pass, and
    put there as they come. Then the time of each indicator alone is measured, in this process on
    the device of the execution (a CPU with one thread): together they take less. All supernets
    that a score is averaged over count.

    Args:
        archs: The architectures, each once.
        settings: Indicators, as objectives, and all that they depend on.
        execution: Where to score.
        cache: What is known.
        tell: Called with ``"scoring"`` or ``"times"``, how many are done, and of how many. What it
            raises ends the work; what is done by then is kept.
    """
    names = settings.indicators
    keys = {arch: identity(arch) for arch in archs}
    known = {name: cache.scores(score_key(settings, name)) for name in names}
    seconds = {name: cache.seconds(score_key(settings, name)) for name in names}
    where = machine_name(execution.device)
    missing = {
        arch: lacking
        for arch, key in keys.items()
        if (lacking := tuple(name for name in names if key not in known[name]))
    }
    untimed = [name for name in names if where not in seconds[name]]
    pool = open_pool(settings, execution) if missing or untimed else None
    if pool is not None:
        try:
            for part in _scored(pool, archs, missing, settings.fidelity, tell):
                for arch, scores in part.items():
                    for name, by_seed in scores.items():
                        known[name].setdefault(keys[arch], float(mean(by_seed)))
                cache.changed()
            for done, name in enumerate(untimed):
                tell("times", done, len(untimed))
                alone = pool.task._replace(indicators=(name,))
                seconds[name][where] = seconds_per_score(alone, archs)
                cache.changed()
        finally:
            cache.save()
            pool.close()
    columns = _columns(
        archs, settings, {name: [known[name][k] for k in keys.values()] for name in names}
    )
    return Measures(columns, {name: times[where] for name, times in seconds.items()})


def _scored(
    pool: ScoringPool,
    archs: Sequence[Architecture],
    missing: Mapping[Architecture, tuple[str, ...]],
    fidelity: str,
    tell: Tell,
) -> Iterator[ScoresOf]:
    """Score what is missing, by the indicators that each architecture lacks."""
    n_done = 0
    for lacking in dict.fromkeys(missing.values()):
        wanted = {arch for arch, names in missing.items() if names == lacking}
        for part in pool.scores(list(archs), wanted, fidelity=fidelity, indicators=lacking):
            if part:
                yield part
            n_done += len(part.keys() & wanted)
            tell("scoring", n_done, len(missing))


def _columns(
    archs: Sequence[Architecture],
    settings: StudySettings,
    scores: Mapping[str, Sequence[float]],
) -> dict[str, tuple[float, ...]]:
    """Put costs and shapes before scores."""
    meters = Meters(settings.costs, settings.space, settings.target)
    counts = {name: tuple(meters.cost(name, arch) for arch in archs) for name in settings.costs}
    return {**counts, **shape_columns(archs), **{n: tuple(values) for n, values in scores.items()}}


def score_key(settings: StudySettings, indicator: str) -> dict[str, Any]:
    """Return what the scores of an indicator are known by in a cache."""
    return {
        "indicator": indicator,
        "fidelity": fidelity_of(indicator, settings.fidelity),
        # A later release may compute otherwise.
        "version": metadata.version("tftas-optuna"),
        **ground_of(settings),
    }
