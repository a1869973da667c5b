"""The search problem: parameters, directions, and knowledge about candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tftas_optuna.samplers.genes import Genes
from tftas_optuna.samplers.knowledge import KnownTable, ManyKnown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    from tftas_optuna.samplers.knowledge import Knowledge

    Rows = NDArray[np.float64]

# Features are equal if they agree to this number of decimals.
_DIGITS = 9


class Described(NamedTuple):
    """Candidates, with everything that is known about them without a trial.

    Attributes:
        rows: Genes, shape (candidates, parameters).
        features: Features, shape (candidates, features).
        losses: Objectives, with signs so that all are minimised, NaN for those that are not
            computed; shape (candidates, objectives).
        penalties: Sums of the violations of computed constraints, shape (candidates,).
    """

    rows: Rows
    features: Rows
    losses: Rows
    penalties: Rows

    def keys(self) -> list[bytes]:
        """Return the features of each candidate as bytes, for comparing candidates."""
        # Adding 0.0 turns minus zero into zero.
        features = np.round(self.features, _DIGITS) + 0.0
        if not features.size:
            return [b""] * len(features)
        as_bytes = features.view(f"V{features.itemsize * features.shape[1]}")
        keys: list[bytes] = as_bytes[:, 0].tolist()
        return keys

    def taken(self, indices: Sequence[int] | NDArray[np.int64]) -> Described:
        """Return some of the candidates."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Described(*(part[chosen] for part in self))

    def joined(self, others: Described) -> Described:
        """Return these candidates followed by others."""
        return Described(*map(np.concatenate, zip(self, others, strict=True)))


class Problem:
    """The search problem of a study.

    Args:
        distributions: The parameters.
        directions: ``"minimize"`` or ``"maximize"`` for each objective.
        knowledge: Knowledge about parameters without a trial, or None.
        fixed: Further parameters for the knowledge function, the same for all candidates.

    Attributes:
        genes: The parameters as columns.
        signs: Factors that turn objectives into losses.
        learned: Positions of the objectives that are not computed without a trial.
        computed_constraints: Names of the constraints that are computed without a trial.
        n_features: Number of features of a candidate.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        directions: Sequence[str],
        knowledge: Knowledge | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self.genes = Genes(distributions)
        self.signs = np.array([-1.0 if d == "maximize" else 1.0 for d in directions])
        self._knowledge = knowledge
        self._fixed = dict(fixed or {})
        self.learned = tuple(range(len(directions)))
        self.computed_constraints: frozenset[str] = frozenset()
        example = self.genes.draw(1, np.random.default_rng(0))
        if knowledge is None:
            self.n_features = self.genes.features(example).shape[1]
        else:
            answer = knowledge({**self._fixed, **self.genes.decode(example)[0]})
            self.n_features = len(answer.features)
            self.learned = tuple(i for i in self.learned if i not in answer.objectives)
            self.computed_constraints = frozenset(answer.constraints)

    def describe(self, rows: Rows) -> Described:
        """Return candidates with everything that is known about them, given their genes."""
        losses = np.full((len(rows), len(self.signs)), np.nan)
        penalties = np.zeros(len(rows))
        if self._knowledge is None or not len(rows):
            features = self.genes.features(rows) if len(rows) else np.empty((0, self.n_features))
            return Described(rows, features, losses, penalties)
        table = self._table(self._knowledge, rows)
        for values in table.constraints.values():
            penalties += np.maximum(values, 0.0)
        for objective, values in table.objectives.items():
            losses[:, objective] = values * self.signs[objective]
        return Described(rows, table.features, losses, penalties)

    def _table(self, knowledge: Knowledge, rows: Rows) -> KnownTable:
        if isinstance(knowledge, ManyKnown) and not self.genes.is_number.any():
            return knowledge.many(self.genes.choices(rows))
        answers = [knowledge({**self._fixed, **params}) for params in self.genes.decode(rows)]
        return KnownTable(
            np.array([answer.features for answer in answers], dtype=float),
            {i: np.array([a.objectives[i] for a in answers]) for i in answers[0].objectives},
            {n: np.array([a.constraints[n] for a in answers]) for n in answers[0].constraints},
        )
