"""What is searched: parameters, directions, and what is known of candidates without a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tftas_optuna.samplers.genes import Genes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    from tftas_optuna.samplers.knowledge import Knowledge

    Rows = NDArray[np.float64]

# Features that agree to so many digits are the same.
_DIGITS = 9


class Described(NamedTuple):
    """Candidates with what is known of them without a trial.

    Attributes:
        rows: Their genes, shape (candidates, parameters).
        params: Their parameters.
        features: Shape (candidates, features).
        losses: Known objectives with signs by which less is better, NaN for the others; shape
            (candidates, objectives).
        penalties: Sums of the violations of known constraints, shape (candidates,).
    """

    rows: Rows
    params: list[dict[str, Any]]
    features: Rows
    losses: Rows
    penalties: Rows

    def __len__(self) -> int:
        return len(self.params)

    def keys(self) -> list[bytes]:
        """Return what tells candidates apart: their features."""
        # Minus zero is zero.
        return [row.tobytes() for row in np.round(self.features, _DIGITS) + 0.0]

    def taken(self, indices: Sequence[int] | NDArray[np.int64]) -> Described:
        """Return some of the candidates."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Described(
            self.rows[chosen],
            [self.params[i] for i in chosen],
            self.features[chosen],
            self.losses[chosen],
            self.penalties[chosen],
        )

    def joined(self, others: Described) -> Described:
        """Return these candidates, and others behind them."""
        return Described(
            np.concatenate((self.rows, others.rows)),
            self.params + others.params,
            np.concatenate((self.features, others.features)),
            np.concatenate((self.losses, others.losses)),
            np.concatenate((self.penalties, others.penalties)),
        )


class Problem:
    """What a study searches.

    Args:
        distributions: The parameters.
        directions: What is better of each objective, ``"minimize"`` or ``"maximize"``.
        knowledge: What can be told of parameters without a trial, if anything.

    Attributes:
        genes: The parameters as columns.
        signs: Factors that turn objectives into losses.
        unknown: Positions of the objectives that take a trial.
        known_constraints: Names of the constraints that take none.
        n_features: Features of a candidate.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution],
        directions: Sequence[str],
        knowledge: Knowledge | None = None,
    ) -> None:
        self.genes = Genes(distributions)
        self.signs = np.array([-1.0 if d == "maximize" else 1.0 for d in directions])
        self._knowledge = knowledge
        self.unknown = tuple(range(len(directions)))
        self.known_constraints: frozenset[str] = frozenset()
        one = self.genes.draw(1, np.random.default_rng(0))
        if knowledge is None:
            self.n_features = self.genes.features(one).shape[1]
        else:
            known = knowledge(self.genes.decode(one)[0])
            self.n_features = len(known.features)
            self.unknown = tuple(i for i in self.unknown if i not in known.objectives)
            self.known_constraints = frozenset(known.constraints)

    def describe(self, rows: Rows) -> Described:
        """Tell what is known of candidates, given by their genes."""
        params = self.genes.decode(rows)
        losses = np.full((len(rows), len(self.signs)), np.nan)
        penalties = np.zeros(len(rows))
        if self._knowledge is None:
            return Described(rows, params, self.genes.features(rows), losses, penalties)
        features = []
        for i, known in enumerate(map(self._knowledge, params)):
            features.append(known.features)
            penalties[i] = sum(max(value, 0.0) for value in known.constraints.values())
            for objective, value in known.objectives.items():
                losses[i, objective] = value * self.signs[objective]
        table = np.array(features, dtype=float).reshape(len(rows), self.n_features)
        return Described(rows, params, table, losses, penalties)
