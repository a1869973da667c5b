"""After a search on an approximation: the exact values of its front."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.ranks import kendall_tau
from tftas_optuna.study.front import EXACT, exact_values, pareto_front

if TYPE_CHECKING:
    from optuna import Study

    from tftas_optuna.search.executors import ScoringPool
    from tftas_optuna.study.settings import StudySettings


def rescore_front(study: Study, settings: StudySettings, pool: ScoringPool) -> None:
    """Compute approximated indicators of the front exactly, and keep both.

    Writes two user attributes of the study: ``exact``, by indicator the exact values by trial
    number, and ``exact_agreement``, by indicator Kendall's tau between both and the mean relative
    offset of the approximate ones.

    Args:
        study: A study of :func:`tftas_optuna.search`.
        settings: Its settings.
        pool: Where to score.
    """
    names = settings.approximated
    front = pareto_front(study) if names else []
    if not front:
        return
    known = {name: exact_values(study).get(name, {}) for name in names}
    missing = {
        candidate.architecture: str(candidate.trial)
        for candidate in front
        if any(str(candidate.trial) not in known[name] for name in names)
    }
    for part in pool.scores(list(missing), set(missing), exactly=names):
        for arch, scores in part.items():
            for name in names:
                known[name][missing[arch]] = mean(scores[name])
    study.set_user_attr(EXACT, known)
    agreement = {}
    for name in names:
        exact = [known[name][str(candidate.trial)] for candidate in front]
        approximate = [candidate.value(name) for candidate in front]
        agreement[name] = {
            "kendall_tau": kendall_tau(approximate, exact),
            "relative_offset": float(np.mean(np.array(approximate) / np.array(exact) - 1)),
        }
    study.set_user_attr("exact_agreement", agreement)
