"""The finished trials of a study, as columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tftas_optuna.study.front import known_values
from tftas_optuna.study.own import own_trials
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.study.settings import StudySettings


class Finished(NamedTuple):
    """The finished trials of a study.

    Attributes:
        settings: Settings of the study.
        trials: The trials, in the order of their numbers.
        feasible: Whether each trial is within the bounds.
    """

    settings: StudySettings
    trials: list[FrozenTrial]
    feasible: NDArray[np.bool_]

    def column(self, name: str) -> NDArray[np.float64]:
        """Return a metric of every trial; NaN where a trial lacks it."""
        values = (known_values(trial, self.settings).get(name) for trial in self.trials)
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    @property
    def values(self) -> NDArray[np.float64]:
        """The objectives of every trial, shape (trials, objectives)."""
        rows = [trial.values for trial in self.trials]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.settings.objectives))


def finished_trials(study: Study) -> Finished:
    """Read the finished trials of a study that stand for architectures of its space.

    Raises:
        UnavailableError: The study was not made by this package.
    """
    settings = read_settings(study)
    trials = own_trials(study, settings)
    feasible = [all(value <= 0 for value in trial.constraints.values()) for trial in trials]
    return Finished(settings, trials, np.array(feasible, dtype=bool))


def thinned(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of the indices, evenly spaced."""
    if len(indices) <= most:
        return indices
    kept: NDArray[np.int64] = indices[np.linspace(0, len(indices) - 1, most).round().astype(int)]
    return kept
