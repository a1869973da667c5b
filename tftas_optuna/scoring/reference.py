"""Scoring of the reference sample that fusions rank candidates in, before the first trial."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, cast

from tftas_optuna.indicators.fusion import check_reference, reference_of, reference_sample
from tftas_optuna.scoring.panel import reasons_of
from tftas_optuna.scoring.task import ScoringTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.composite import CompositeIndicator, Reference
    from tftas_optuna.metrics import Target
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.scoring.pool import ScoresOf, ScoringPool

_LOG = logging.getLogger("tftas_optuna")
_LOG_SECONDS = 5.0


def score_reference(
    pool: ScoringPool,
    task: ScoringTask,
    stored: Reference | None,
    target: Target,
    *,
    score: Callable[[list[Architecture], tuple[str, ...]], ScoresOf] | None = None,
    strict: bool = True,
) -> Reference:
    """Return the values of the reference sample for the relative indicators of a task.

    Progress is logged to ``tftas_optuna`` every few seconds.

    Args:
        pool: The pool that scores the sample, unless its values are stored.
        task: The task with the relative indicators.
        stored: Values that were computed before, if any.
        target: The target of the costs among the parts.
        score: Scores distinct architectures by the named indicators in place of the pool, for
            callers that cache scores.
        strict: Whether to raise if a part is finite for hardly any architecture.

    Returns:
        The finite values; empty if no indicator is relative.

    Raises:
        NotFiniteError: A part is finite for hardly any architecture of the sample.
    """
    relative = relative_indicators(task)
    parts = tuple(dict.fromkeys(part for indicator in relative for part in indicator.parts))
    if stored is not None and all(part in stored for part in parts):
        return stored
    conditions = task.conditions
    sample = reference_sample(conditions.space, conditions.supernet.seed) if relative else []
    names = tuple(dict.fromkeys(name for indicator in relative for name in indicator.indicators))
    if score is None:
        score = partial(_score, pool, conditions)
    scores = score(list(dict.fromkeys(sample)), names) if names else {}
    meters = {n: m for i in relative for n, m in i.meters(conditions.space, target).items()}

    def value(part: str, arch: Architecture, offset: int) -> float:
        return float(meters[part](arch)) if part in meters else scores[arch][part][offset]

    reference = reference_of(parts, sample, conditions.n_seeds, value)
    for indicator in relative if strict else ():
        check_reference(indicator, reference, reasons_of(scores.values()))
    return reference


def relative_indicators(task: ScoringTask) -> list[CompositeIndicator]:
    """Return the indicators of a task that rank candidates in a reference sample."""
    return [cast("CompositeIndicator", i) for i, _ in task.entries() if i.relative]


def _score(
    pool: ScoringPool,
    conditions: Conditions,
    archs: list[Architecture],
    indicators: tuple[str, ...],
) -> ScoresOf:
    scores: ScoresOf = {}
    log_progress = _ProgressLog()
    for part in pool.scores(ScoringTask.of(conditions, indicators, "exact"), archs, set(archs)):
        scores |= part
        log_progress(len(scores), len(archs))
    return scores


class _ProgressLog:
    """Logs every few seconds how much of the sample is scored."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _LOG_SECONDS:
            self._last = now
            _LOG.info("reference sample: %d of %d architectures scored", done, total)
