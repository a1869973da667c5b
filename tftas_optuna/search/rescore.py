"""Exact scores of candidates whose indicators a search has approximated."""

from __future__ import annotations

import logging
from statistics import mean
from typing import TYPE_CHECKING

from tftas_optuna._given import check_callback
from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics.units import name_numbers
from tftas_optuna.scoring.conditions import batches_seen
from tftas_optuna.scoring.execution import check_execution
from tftas_optuna.scoring.task import ScoringTask
from tftas_optuna.storage import check_writable, keep, told_in_one_line, write_lock
from tftas_optuna.study._optuna import storage_of
from tftas_optuna.study.agreement import agreements
from tftas_optuna.study.attributes import write_attribute
from tftas_optuna.study.front import (
    AGREEMENT,
    EXACT,
    candidates_of,
    exact_values,
    pareto_front,
)
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from optuna import Study

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.scoring.execution import Execution
    from tftas_optuna.scoring.pool import ScoringPool
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

_LOG = logging.getLogger("tftas_optuna")


@told_in_one_line()
def score_exactly(
    study: Study,
    candidates: Candidate | Iterable[Candidate] | None = None,
    *,
    execution: Execution | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> None:
    """Compute approximated indicators of candidates exactly, and store the values in the study.

    Values that exist already are not computed again. A candidate whose exact value is not finite
    is skipped, with a warning on the logger ``tftas_optuna``.

    Afterwards the candidates of :func:`tftas_optuna.pareto_front` have the values in
    ``candidate.exact``. The study's user attribute ``exact_agreement`` holds, for each indicator,
    the number of front members with an exact value (``n``), Kendall's tau between exact and
    approximate values, and mean and standard deviation of the relative offset of the approximate
    ones.

    Args:
        study: A study of :func:`tftas_optuna.search`.
        candidates: Candidates of the study; by default its whole Pareto front.
        execution: Where to compute.
        callback: Called with the number of finished candidates and of all, before the first and
            a few times a second. An exception from it ends the work; finished values are stored.

    Raises:
        TftasError: Something else than candidates is given, an indicator is not registered, or
            the device does not exist.
        UnavailableError: The study was not made by this package or has its own options of an
            indicator, or processes were lost.

    Example:
        >>> from tftas_optuna import pareto_front, score_exactly, search
        >>> study = search("autoformer-tiny", n_trials=30)
        >>> score_exactly(study)
        >>> exact = [candidate.exact["dss"] for candidate in pareto_front(study)]
    """
    settings = read_settings(study)
    check_callback(callback)
    execution = check_execution(execution)
    candidates = pareto_front(study) if candidates is None else candidates_of(candidates)
    if not _missing(candidates, settings, exact_values(study)):
        return
    if settings.options:
        raise UnavailableError(
            f"study {study.study_name!r} has its own options of"
            f" {', '.join(settings.options)}; only usual ones are computed again: use"
            " Scorer(space, fidelity='exact', ...) with the same"
        )
    batches = batches_seen(settings.approximated)
    with execution.open_pool(settings.conditions, batches) as pool:
        rescore(study, settings, candidates, pool, callback)


def exact_task(settings: StudySettings) -> ScoringTask:
    """Return the task that computes a study's approximated indicators exactly."""
    return ScoringTask.of(settings.conditions, settings.approximated, "exact")


def rescore(
    study: Study,
    settings: StudySettings,
    candidates: Sequence[Candidate],
    pool: ScoringPool,
    callback: Callable[[int, int], None] | None,
) -> None:
    """Do the work of :func:`score_exactly` in an open pool."""
    names = settings.approximated
    computed: dict[str, dict[str, float]] = {name: {} for name in names}
    gaps: dict[int, str] = {}
    missing = _missing(candidates, settings, exact_values(study))
    n_done = 0

    def write() -> None:
        # Read again under the lock, as another process may have written meanwhile.
        with write_lock(study, storage_of(study)[0]):
            stored = exact_values(study)
            merged = {name: {**stored.get(name, {}), **computed[name]} for name in names}
            write_attribute(study, EXACT, {**stored, **merged})

    if missing:
        check_writable(study, storage_of(study)[0])
    try:
        if callback is not None and missing:
            callback(0, len(missing))
        for part in pool.scores(exact_task(settings), list(missing), set(missing)):
            for arch, scores in part.items():
                for name in scores.keys() - scores.gaps:
                    computed[name] |= dict.fromkeys(missing[arch], mean(scores[name]))
                for reason in scores.gaps.values():
                    gaps |= dict.fromkeys(map(int, missing[arch]), reason)
            n_done += len(part)
            if callback is not None:
                callback(n_done, len(missing))
    finally:
        if gaps:
            numbers = sorted(gaps)
            _LOG.warning(
                "study %r: %s without an exact score, such as trial %d: %s",
                study.study_name,
                name_numbers(numbers, "trial"),
                numbers[0],
                gaps[numbers[0]],
            )
        if n_done:
            keep(write)
        # The front may have changed since the agreement was written last.
        measured = agreements(pareto_front(study)).items()
        study.set_user_attr(AGREEMENT, {name: one._asdict() for name, one in measured if one.n})


def _missing(
    candidates: Sequence[Candidate],
    settings: StudySettings,
    stored: dict[str, dict[str, float]],
) -> dict[Architecture, list[str]]:
    """Return the architectures that lack an exact value, with the numbers of their trials."""
    missing: dict[Architecture, list[str]] = {}
    for candidate in candidates:
        trial = str(candidate.trial)
        if any(trial not in stored.get(name, {}) for name in settings.approximated):
            missing.setdefault(candidate.architecture, []).append(trial)
    return missing
