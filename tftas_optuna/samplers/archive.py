"""The finished trials of a study as arrays."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.ranks import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Iterable

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
            count as the same candidate.
    """

    rows: Rows
    features: Rows
    losses: Rows
    penalties: Rows
    violations: Rows
    keys: frozenset[bytes]

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
        self._violations: list[dict[str, float]] = []
        self._names: dict[str, None] = {}
        self._keys: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._losses)

    def add(self, trials: Iterable[FrozenTrial]) -> None:
        """Add finished trials.

        Failed trials count as tried. Trials of other programs are ignored if a parameter is
        missing or has a value outside its distribution.
        """
        problem = self.problem
        trials = [trial for trial in trials if problem.genes.hold(trial.params)]
        failed = [trial.params for trial in trials if trial.values is None]
        self._keys.update(problem.describe(problem.genes.encode(failed)).keys())
        trials = [trial for trial in trials if trial.values is not None]
        if not trials:
            return
        described = problem.describe(problem.genes.encode([trial.params for trial in trials]))
        self._described = self._described.joined(described)
        losses = np.array([trial.values for trial in trials]) * problem.signs
        self._losses = np.concatenate((self._losses, losses))
        violations = [dict(trial.constraints) for trial in trials]
        excess = [
            sum(max(value, 0.0) for value in constraints.values()) for constraints in violations
        ]
        self._penalties = np.concatenate((self._penalties, excess))
        self._violations += violations
        names = dict.fromkeys(name for constraints in violations for name in constraints)
        self._names |= {n: None for n in names if n not in problem.computed_constraints}
        self._keys.update(described.keys())

    def table(self) -> Tried:
        """Return all trials as arrays."""
        violations = [
            [constraints.get(name, np.nan) for constraints in self._violations]
            for name in self._names
        ]
        return Tried(
            self._described.rows,
            self._described.features,
            _clip_infinite(self._losses.copy()),
            self._penalties,
            _clip_infinite(np.array(violations).reshape(len(self._names), len(self)).T),
            frozenset(self._keys),
        )


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
