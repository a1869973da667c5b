"""The finished trials of a study as arrays."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.ranks import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray
    from optuna.trial import FrozenTrial

    from tftas_optuna.samplers.problem import Problem

    Rows = NDArray[np.float64]

# System attribute of a trial with the predictions of its objectives, None for computed ones.
PREDICTED = "ScreenedNSGAIISampler:predicted"


@dataclasses.dataclass(frozen=True, eq=False)
class Tried:
    """Finished trials as arrays, in the order in which they were added.

    Attributes:
        rows: Genes, shape (trials, parameters).
        features: Features, shape (trials, features).
        losses: Objectives, with signs so that all are minimised, shape (trials, objectives).
        penalties: Sums of constraint violations, shape (trials,).
        violations: Values of the constraints that are not computed, NaN where a trial lacks one,
            shape (trials, constraints).
        keys: Features of all trials, and of failed ones, as bytes; trials with equal features
            count as the same candidate. It grows with the archive.
    """

    rows: Rows
    features: Rows
    losses: Rows
    penalties: Rows
    violations: Rows
    keys: AbstractSet[bytes]

    def __len__(self) -> int:
        return len(self.rows)


class Archive:
    """Collects the finished trials of a study.

    Args:
        problem: The search problem of the study.

    Attributes:
        problem: The search problem of the study.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._described = problem.describe(np.empty((0, len(problem.genes))))
        self._losses = np.empty((0, len(problem.signs)))
        self._penalties = np.empty(0)
        self._violations = np.empty((0, 0))
        self._names: dict[str, None] = {}
        self._keys: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, trials: Iterable[FrozenTrial]) -> None:
        """Add finished trials.

        Failed trials count as tried. Trials of other programs are ignored if a parameter is
        missing or has a value outside its distribution.
        """
        trials, rows = self._valid(list(trials))
        described = self.problem.describe(rows)
        self._keys.update(described.keys())
        scored = [i for i, trial in enumerate(trials) if trial.values is not None]
        if not scored:
            return
        self._described = self._described.joined(described.taken(scored))
        losses = np.array([trials[i].values for i in scored]) * self.problem.signs
        self._losses = np.concatenate((self._losses, losses))
        self._add_constraints([trials[i].constraints for i in scored])

    def table(self) -> Tried:
        """Return all trials as arrays."""
        return Tried(
            self._described.rows,
            self._described.features,
            _clip_infinite(self._losses.copy()),
            self._penalties,
            _clip_infinite(self._violations.copy()),
            self._keys,
        )

    def _valid(self, trials: list[FrozenTrial]) -> tuple[list[FrozenTrial], Rows]:
        """Return the trials with a valid value of every parameter, and their genes."""
        genes = self.problem.genes
        try:
            return trials, genes.encode([trial.params for trial in trials])
        except (KeyError, TypeError, ValueError):
            trials = [trial for trial in trials if genes.hold(trial.params)]
            return trials, genes.encode([trial.params for trial in trials])

    def _add_constraints(self, constraints: Sequence[dict[str, float]]) -> None:
        excess = [sum(max(value, 0.0) for value in values.values()) for values in constraints]
        self._penalties = np.concatenate((self._penalties, excess))
        names = dict.fromkeys(name for values in constraints for name in values)
        self._names |= {n: None for n in names if n not in self.problem.computed_constraints}
        n_new_names = len(self._names) - self._violations.shape[1]
        before = np.pad(self._violations, ((0, 0), (0, n_new_names)), constant_values=np.nan)
        rows = [[values.get(name, np.nan) for name in self._names] for values in constraints]
        new = np.array(rows, dtype=float).reshape(len(rows), len(self._names))
        self._violations = np.concatenate((before, new))


def agreement(trials: Iterable[FrozenTrial]) -> float | None:
    """Return how well a screen's predictions ranked trials.

    Args:
        trials: Finished trials; failed ones and those without a prediction are ignored.

    Returns:
        Kendall's tau between predicted and actual values, for the objective with the lowest tau;
        None for fewer than two predictions.
    """
    pairs = [
        (trial.system_attrs[PREDICTED], trial.values)
        for trial in trials
        if PREDICTED in trial.system_attrs and trial.values is not None
    ]
    if len(pairs) < 2:
        return None
    predicted, actual = (np.array(rows, dtype=float) for rows in zip(*pairs, strict=True))
    taus = [
        kendall_tau(predictions, values)
        for predictions, values in zip(predicted.T, _clip_infinite(actual).T, strict=True)
        if np.isfinite(predictions).all()
    ]
    return min(taus, default=None)


def _clip_infinite(values: Rows) -> Rows:
    """Replace infinite values by the smallest or largest finite value of their column."""
    for column in values.T:
        finite = column[np.isfinite(column)]
        ends = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        np.clip(column, *ends, out=column)
    return values
