"""The trials of a study that are architectures of its space.

A study may contain other trials: anybody can add trials to a study, and nobody can delete them.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics.units import name_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optuna import Study
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import FrozenTrial

    from tftas_optuna.study.settings import StudySettings

# User attribute of a failed trial: the reason why its architecture has no score.
FAILURE_KEY = "failure"

_LOG = logging.getLogger("tftas_optuna")


def own_trials(
    study: Study,
    settings: StudySettings,
    trials: Iterable[FrozenTrial] | None = None,
    *,
    with_failed: bool = False,
) -> list[FrozenTrial]:
    """Return the complete trials of a study that are architectures of its space.

    The others are skipped, with one warning that lists them.

    Args:
        study: The study.
        settings: The settings of the study.
        trials: The trials to look at; by default all of the study.
        with_failed: Whether to include trials whose architecture has no score; see
            :func:`failure_of`.
    """
    distributions = settings.space.distributions()
    kept = []
    skipped: dict[int, str] = {}
    for trial in study.get_trials(deepcopy=False) if trials is None else trials:
        if trial.state == TrialState.COMPLETE or (with_failed and failure_of(trial) is not None):
            reason = _why_foreign(trial, settings, distributions)
            if reason is None:
                kept.append(trial)
            else:
                skipped[trial.number] = reason
    if skipped:
        first, reason = next(iter(skipped.items()))
        _LOG.warning(
            "study %r: %s skipped, no architecture of its space (trial %d: %s)",
            study.study_name,
            name_numbers(list(skipped), "trial"),
            first,
            reason,
            extra={"once": True},
        )
    return kept


def why_foreign(trial: FrozenTrial, settings: StudySettings) -> str | None:
    """Return the reason why a trial is not an architecture of the space; None if it is one."""
    return _why_foreign(trial, settings, settings.space.distributions())


def failure_of(trial: FrozenTrial) -> str | None:
    """Return the reason why a trial's architecture has no score; None for all other trials."""
    reason = trial.user_attrs.get(FAILURE_KEY)
    return reason if trial.state == TrialState.FAIL and isinstance(reason, str) else None


def numeric_attributes(trial: FrozenTrial) -> dict[str, float]:
    """Return the user attributes of a trial that are numbers."""
    return {
        name: value
        for name, value in trial.user_attrs.items()
        if isinstance(value, int | float) and not math.isnan(value)
    }


def has_all(
    params: Mapping[str, object], distributions: Mapping[str, CategoricalDistribution]
) -> bool:
    """Return whether all parameters of a space are present with one of their choices."""
    return all(
        name in params and params[name] in distribution.choices
        for name, distribution in distributions.items()
    )


def _why_foreign(
    trial: FrozenTrial,
    settings: StudySettings,
    distributions: Mapping[str, CategoricalDistribution],
) -> str | None:
    if trial.values is not None:
        if len(trial.values) != len(settings.objectives):
            return f"values {trial.values} for {', '.join(settings.objectives)}"
        if any(map(math.isnan, trial.values)):
            return "a value is NaN"
    # Decoding thousands of trials would take longer than reading them.
    if has_all(trial.params, distributions):
        return None
    try:
        # Parameters of blocks beyond the depth of a network may be missing.
        settings.space.decode(trial.params)
    except TftasError as error:
        return str(error)
    return None
