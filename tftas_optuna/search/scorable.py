"""The check that the architectures of a study have scores at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.indicators.fusion import LEAST_SCORED
from tftas_optuna.metrics.base import NotFiniteError
from tftas_optuna.study.own import failure_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# Fewest trials for a verdict.
_FEWEST = 20


class Scorable:
    """Counts the trials of a study, and those whose architecture has no score.

    Args:
        study_name: Name of the study.
    """

    def __init__(self, study_name: str) -> None:
        self._study_name = study_name
        self._n_tried = self._n_failed = 0
        self._last = ""

    def count(self, trial: FrozenTrial) -> None:
        """Count a finished trial."""
        self._n_tried += 1
        failure = failure_of(trial)
        if failure is not None:
            self._n_failed += 1
            self._last = failure

    def check(self, *, at_end: bool = False) -> None:
        """Check that enough architectures have scores for the search to continue.

        Args:
            at_end: Whether the search has ended; at least one score is then required, even after
                few trials.

        Raises:
            NotFiniteError: Hardly any architecture has a score.
        """
        n_scored = self._n_tried - self._n_failed
        hardly_any = self._n_tried >= _FEWEST and n_scored < LEAST_SCORED * self._n_tried
        if hardly_any or (at_end and self._n_failed and not n_scored):
            raise NotFiniteError(
                f"{self._n_failed} of {self._n_tried} trials of study {self._study_name!r} have no"
                f" score, such as this one: {self._last}; give other objectives or pictures, and"
                " another --study-name"
            )
