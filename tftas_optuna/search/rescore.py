"""After a search on an approximation: the exact scores of its front."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.study.front import pareto_front

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from tftas_optuna.search.executors import ScoringPool


def rescore_front(study: Study, pool: ScoringPool) -> None:
    """Score the front of a study exactly, and keep the scores beside the approximate ones.

    Writes two user attributes of the study: ``exact_dss``, the exact scores by trial number, and
    ``exact_agreement``, Kendall's tau between both scores and the mean relative offset of the
    approximate ones.

    Args:
        study: A study of :func:`tftas_optuna.search`.
        pool: Where to score.
    """
    front = pareto_front(study)
    if not front:
        return
    known: dict[str, float] = dict(study.user_attrs.get("exact_dss", {}))
    missing = {c.architecture: str(c.trial) for c in front if str(c.trial) not in known}
    for part in pool.scores(list(missing), set(missing), fidelity="exact"):
        known.update({missing[arch]: mean(scores) for arch, scores in part.items()})
    exact = [known[str(candidate.trial)] for candidate in front]
    approximate = [candidate.dss for candidate in front]
    study.set_user_attr("exact_dss", known)
    study.set_user_attr(
        "exact_agreement",
        {
            "kendall_tau": kendall_tau(approximate, exact),
            "relative_offset": float(np.mean(np.array(approximate) / np.array(exact) - 1)),
        },
    )


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's rank correlation (tau-a) of two sequences; 1.0 for a single pair."""
    a, b = np.asarray(first), np.asarray(second)
    i, j = np.triu_indices(len(a), k=1)
    if not len(i):
        return 1.0
    return float(np.mean(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])))
