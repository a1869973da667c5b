"""The reference sample that fusions look at, scored before the first trial."""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from tftas_optuna.indicators.composite import CompositeIndicator, Reference
from tftas_optuna.indicators.fusion import check_reference, reference_of, reference_sample
from tftas_optuna.indicators.panel import reasons_of
from tftas_optuna.spaces import space_from_dict

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target
    from tftas_optuna.search.executors import ScoresOf, ScoringPool

_LOG = logging.getLogger("tftas_optuna")
_EVERY = 5.0


def look_at_reference(
    pool: ScoringPool,
    known: Reference | None,
    target: Target,
    *,
    progress: Callable[[int, int], None] | None = None,
    score: Callable[[list[Architecture], tuple[str, ...]], ScoresOf] | None = None,
    strict: bool = True,
) -> Reference:
    """Let the relative indicators of a pool look at their reference sample.

    Args:
        pool: Where it is scored, unless it is known.
        known: Its values, if somebody has them.
        target: What costs among the parts are taken for.
        progress: Told how many are scored, and of how many; by default the logger
            ``tftas_optuna`` is, every few seconds.
        score: Scores different architectures by names of indicators, in place of the pool, for a
            caller that has some scores already.
        strict: Whether each of the indicators has to have something to rank among.

    Returns:
        The values, as far as they are finite; empty where no indicator is relative.

    Raises:
        NotFiniteError: Hardly any architecture of the sample has a finite value of a part.
    """
    task = pool.task
    relative = [i for i in task.indicators if isinstance(i, CompositeIndicator) and i.relative]
    parts = tuple(dict.fromkeys(part for each in relative for part in each.parts))
    if known is None or any(part not in known for part in parts):
        space = space_from_dict(json.loads(task.space))
        sample = reference_sample(space, task.seed) if relative else []
        indicators = tuple(dict.fromkeys(part for each in relative for part in each.indicators))
        if score is None:
            score = partial(_scores, pool, progress=progress or _Told())
        scores = score(list(dict.fromkeys(sample)), indicators) if indicators else {}
        meters = {n: m for each in relative for n, m in each.meters(space, target).items()}

        def value(part: str, arch: Architecture, offset: int) -> float:
            return float(meters[part](arch)) if part in meters else scores[arch][part][offset]

        known = reference_of(parts, sample, task.n_seeds, value)
        for each in relative if strict else ():
            check_reference(each, known, reasons_of(scores.values()))
    if relative:
        pool.look_at(known)
    return known


def _scores(
    pool: ScoringPool,
    archs: list[Architecture],
    indicators: tuple[str, ...],
    *,
    progress: Callable[[int, int], None],
) -> ScoresOf:
    found: ScoresOf = {}
    progress(0, len(archs))
    for part in pool.scores(archs, set(archs), fidelity="exact", indicators=indicators):
        found |= part
        progress(len(found), len(archs))
    return found


class _Told:
    """Tells the log every few seconds how far the sample is scored."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last = now
            _LOG.info("reference sample: %d of %d architectures scored", done, total)
