"""Accuracies of a front on images that its search did not see."""

from __future__ import annotations

import dataclasses
import logging
from statistics import mean
from typing import TYPE_CHECKING

from tftas_optuna.indicators.measures.accuracy import METRIC as ACCURACY
from tftas_optuna.scoring.basis import read_labelled
from tftas_optuna.scoring.conditions import sees_labelled
from tftas_optuna.scoring.task import ScoringTask
from tftas_optuna.storage import keep, write_lock
from tftas_optuna.study._optuna import storage_of
from tftas_optuna.study.held_out import HELD_OUT, HeldOut, read_held_out, write_held_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.scoring.pool import ScoringPool
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

_LOG = logging.getLogger("tftas_optuna")


def score_held_out(
    study: Study,
    settings: StudySettings,
    candidates: Sequence[Candidate],
    pool: ScoringPool,
    callback: Callable[[], None],
) -> None:
    """Compute the accuracies of candidates on held-out images, and store them in the study.

    The best of many trials on some images is good on these partly by luck; on others it is not.
    Nothing is done for a study without objectives or bounds on labelled images.

    Args:
        study: The study.
        settings: Its settings.
        candidates: Candidates of the study.
        pool: The pool of the search.
        callback: Called a few times a second. An exception from it ends the work; finished values
            are stored.

    Raises:
        UnavailableError: The images cannot be read.
    """
    if not sees_labelled(settings.indicators):
        return
    images = read_labelled(settings.conditions, held_out=True)
    digest, seen = images.digest, images.seen
    indicator = dataclasses.replace(ACCURACY, name=HELD_OUT, held_out=True)
    task = ScoringTask(settings.conditions, (indicator,))

    def stored() -> dict[str, float]:
        kept = read_held_out(study)
        return dict(kept.values) if kept.digest == digest else {}

    before = stored()
    missing: dict[Architecture, list[str]] = {}
    for candidate in candidates:
        if str(candidate.trial) not in before:
            missing.setdefault(candidate.architecture, []).append(str(candidate.trial))
    computed: dict[str, float] = {}

    def write() -> None:
        # Read again under the lock, as another process may have written meanwhile.
        with write_lock(study, storage_of(study)[0]):
            write_held_out(study, HeldOut({**stored(), **computed}, digest, seen))

    try:
        for part in pool.scores(task, list(missing), set(missing)):
            for arch, scores in part.items():
                for reason in scores.gaps.values():
                    _LOG.warning("study %r: %s", study.study_name, reason)
                for name in scores.keys() - scores.gaps:
                    computed |= dict.fromkeys(missing[arch], mean(scores[name]))
            callback()
    finally:
        if computed:
            keep(write)
