"""The progress of a search, its front so far, and its stop rules."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tftas_optuna.study.hypervolume import Hypervolume, front_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optuna.trial import FrozenTrial

    from tftas_optuna.bars import Bars
    from tftas_optuna.metrics import Meters
    from tftas_optuna.study.settings import StudySettings

# A front whose hypervolume grows by a smaller share than this has stalled.
_STALLED = 1e-3


class SearchProgress(NamedTuple):
    """The progress of a search, passed to the callback before the first and after every trial.

    Attributes:
        n_done: Trials of this run so far.
        n_trials: Trials that this run is to add.
        n_study: Trials of the whole study that are stored.
        generation: The current generation, from 0.
        seconds: Seconds since the first generation of this run began.
        scoring_seconds: The part of them spent on scores.
        front_size: Trials on the front of the study.
        hypervolume: Size of that front; see :class:`tftas_optuna.study.hypervolume.Hypervolume`.
        n_replaced: Trials of this run that replace children which were tried already or out of
            bounds.
        n_repeated: Trials of this run that repeat an architecture, as there was no new one.
        screen: Kendall's tau between the latest predictions of a screened sampler and the scores;
            None before there are any. Below :data:`tftas_optuna.samplers.TRUSTED` nothing is
            screened.
        n_exact: Members of the final front that are scored exactly so far.
        n_exact_wanted: Members of the final front to score exactly.
    """

    n_done: int
    n_trials: int
    n_study: int
    generation: int
    seconds: float
    scoring_seconds: float
    front_size: int
    hypervolume: float
    n_replaced: int = 0
    n_repeated: int = 0
    screen: float | None = None
    n_exact: int = 0
    n_exact_wanted: int = 0

    def __repr__(self) -> str:
        exact = f", {self.n_exact} of {self.n_exact_wanted} exact" if self.n_exact_wanted else ""
        return (
            f"<SearchProgress: {self.n_done:,} of {self.n_trials:,} trials, generation"
            f" {self.generation}, {self.front_size:,} on the front, hypervolume"
            f" {self.hypervolume:.6g}, {self.seconds:.1f} s{exact}>"
        )

    def show(self, bars: Bars, title: str) -> None:
        """Show the progress in a bar of trials, or of the exact scores in the end."""
        if self.n_exact_wanted:
            bars.show("exact scores", self.n_exact, self.n_exact_wanted, "member")
            return
        facts = {"front": f"{self.front_size:,}", "hypervolume": f"{self.hypervolume:.6g}"}
        bars.show(title, self.n_done, self.n_trials, "trial", **facts)


class StopRules(NamedTuple):
    """When a search stops.

    Attributes:
        n_trials: Trials to add.
        deadline: When to begin no further score, on the monotonic clock; None for never.
        patience: Generations after which to stop if the front has hardly grown; None for never.
    """

    n_trials: int
    deadline: float | None
    patience: int | None

    def is_late(self) -> bool:
        """Return whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def is_over(self, volumes: Sequence[float]) -> bool:
        """Return whether to stop, given the hypervolume of the front after each generation."""
        if self.patience is not None and len(volumes) > self.patience:
            if volumes[-1] - volumes[-1 - self.patience] < _STALLED * volumes[-1]:
                return True
        return self.is_late()


class RunningFront:
    """The values on the front of a study, updated with each trial.

    Args:
        settings: The settings of the study.
        meters: The costs of the study.
    """

    def __init__(self, settings: StudySettings, meters: Meters) -> None:
        self._measure = Hypervolume(settings, meters)
        self._signs = np.array([-1.0 if d == "maximize" else 1.0 for d in settings.directions])
        self._losses = np.empty((0, len(self._signs)))
        self.hypervolume = 0.0

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, trials: Iterable[FrozenTrial]) -> None:
        """Add trials; those without a score or out of bounds are ignored."""
        new = [
            trial.values
            for trial in trials
            if trial.values is not None
            and all(excess <= 0 for excess in trial.constraints.values())
        ]
        if new:
            self._losses = front_rows(np.vstack((self._losses, np.array(new) * self._signs)))
            self.hypervolume = self._measure(self._losses * self._signs)
