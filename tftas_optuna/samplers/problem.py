"""What is searched: parameters, directions, and what is known without a trial."""

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

# Features that agree to this many digits are equal.
_DIGITS = 9


class Described(NamedTuple):
    """Candidates, with all that is known of them without a trial.

    Attributes:
        rows: Their genes, shape (candidates, parameters).
        features: Shape (candidates, features).
        losses: Objectives with signs by which less is better, NaN for those that have to be
            tried; shape (candidates, objectives).
        penalties: Sums of the violations of computed constraints, shape (candidates,).
    """

    rows: Rows
    features: Rows
    losses: Rows
    penalties: Rows

    def keys(self) -> list[bytes]:
        """Return the features of each candidate as bytes, to compare candidates by."""
        # Minus zero is zero.
        return [row.tobytes() for row in np.round(self.features, _DIGITS) + 0.0]

    def taken(self, indices: Sequence[int] | NDArray[np.int64]) -> Described:
        """Return some of the candidates."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Described(*(part[chosen] for part in self))

    def joined(self, others: Described) -> Described:
        """Return these candidates followed by others."""
        return Described(*map(np.concatenate, zip(self, others, strict=True)))


class Problem:
    """What a study searches.

    Args:
        distributions: The parameters.
        directions: ``"minimize"`` or ``"maximize"`` for each objective.
        knowledge: What is known of parameters without a trial, if anything.
        fixed: Further parameters that the knowledge asks for, the same for all candidates.

    Attributes:
        genes: The parameters as columns.
        signs: Factors that turn objectives into losses.
        learned: Positions of the objectives that have to be tried.
        computed_constraints: Names of the constraints that are computed.
        n_features: Features of a candidate.
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
        one = self.genes.draw(1, np.random.default_rng(0))
        if knowledge is None:
            self.n_features = self.genes.features(one).shape[1]
        else:
            answer = knowledge({**self._fixed, **self.genes.decode(one)[0]})
            self.n_features = len(answer.features)
            self.learned = tuple(i for i in self.learned if i not in answer.objectives)
            self.computed_constraints = frozenset(answer.constraints)

    def describe(self, rows: Rows) -> Described:
        """Return candidates, given by their genes, with all that is known of them."""
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
