"""After a search on an approximation: the exact scores of its front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.indicators import Scorer
from tftas_optuna.study.front import pareto_front
from tftas_optuna.study.settings import StudySettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from optuna import Study


def rescore_front(study: Study, *, device: torch.device) -> None:
    """Score the front of a study exactly, and keep the scores beside the approximate ones.

    Writes two user attributes of the study: ``exact_dss``, the exact scores by trial number, and
    ``exact_agreement``, Kendall's tau between both scores and the mean relative offset of the
    approximate ones.

    Args:
        study: A study of :func:`tftas_optuna.search`.
        device: Where to score.
    """
    front = pareto_front(study)
    if not front:
        return
    settings = StudySettings.read(study)
    known: dict[str, float] = dict(study.user_attrs.get("exact_dss", {}))
    missing = [candidate for candidate in front if str(candidate.trial) not in known]
    if missing:
        scorer = Scorer(
            settings.space,
            indicator=settings.indicator,
            seed=settings.seed,
            n_seeds=settings.n_seeds,
            device=device,
            img_size=settings.img_size,
            num_classes=settings.num_classes,
            head_weight=settings.head_weight,
        )
        scores = scorer.batch([candidate.architecture for candidate in missing])
        known.update({str(c.trial): score for c, score in zip(missing, scores, strict=True)})
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
