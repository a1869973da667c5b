"""The reference sample that fusions look at, scored before the first trial."""

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
_EVERY = 5.0


def score_reference(
    pool: ScoringPool,
    task: ScoringTask,
    stored: Reference | None,
    target: Target,
    *,
    score: Callable[[list[Architecture], tuple[str, ...]], ScoresOf] | None = None,
    strict: bool = True,
) -> Reference:
    """Return the values that the relative indicators of a task look at.

    How far it is, is told to the logger ``tftas_optuna`` every few seconds.

    Args:
        pool: Where the sample is scored, unless its values are stored.
        task: What looks at it.
        stored: Its values, if somebody has them.
        target: What costs among the parts are taken for.
        score: Scores different architectures by names of indicators, in place of the pool, for a
            caller that has some scores already.
        strict: Whether each of the indicators has to have something to rank among.

    Returns:
        The values, as far as they are finite; empty where no indicator is relative.

    Raises:
        NotFiniteError: Hardly any architecture of the sample has a finite value of a part.
    """
    relative = relative_indicators(task)
    parts = tuple(dict.fromkeys(part for each in relative for part in each.parts))
    if stored is not None and all(part in stored for part in parts):
        return stored
    conditions = task.conditions
    sample = reference_sample(conditions.space, conditions.supernet.seed) if relative else []
    indicators = tuple(dict.fromkeys(part for each in relative for part in each.indicators))
    if score is None:
        score = partial(_score, pool, conditions)
    scores = score(list(dict.fromkeys(sample)), indicators) if indicators else {}
    meters = {n: m for each in relative for n, m in each.meters(conditions.space, target).items()}

    def value(part: str, arch: Architecture, offset: int) -> float:
        return float(meters[part](arch)) if part in meters else scores[arch][part][offset]

    reference = reference_of(parts, sample, conditions.n_seeds, value)
    for each in relative if strict else ():
        check_reference(each, reference, reasons_of(scores.values()))
    return reference


def relative_indicators(task: ScoringTask) -> list[CompositeIndicator]:
    """List the indicators of a task that look at a reference sample."""
    return [cast("CompositeIndicator", i) for i, _ in task.wanted() if i.relative]


def _score(
    pool: ScoringPool,
    conditions: Conditions,
    archs: list[Architecture],
    indicators: tuple[str, ...],
) -> ScoresOf:
    scores: ScoresOf = {}
    tell = _Told()
    for part in pool.scores(ScoringTask.of(conditions, indicators, "exact"), archs, set(archs)):
        scores |= part
        tell(len(scores), len(archs))
    return scores


class _Told:
    """Tells the log every few seconds how far the sample is scored."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last = now
            _LOG.info("reference sample: %d of %d architectures scored", done, total)
