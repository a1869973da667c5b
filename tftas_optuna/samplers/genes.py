"""Optuna parameters as rows of numbers, to breed and predict thousands of candidates at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

    Rows = NDArray[np.float64]

# Distribution index of simulated binary crossover: larger values keep children near parents.
_ETA = 10.0
# Standard deviation of a small step, as a fraction of a parameter's range.
_STEP = 0.1


class Genes:
    """The parameters of a search space as columns.

    A categorical parameter is the index of its choice. A number is scaled to the range from 0 to
    1, on a logarithmic scale if its distribution has one, and snapped to the distribution's grid.

    Args:
        distributions: The parameters.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self._columns = [_gene(name, distribution) for name, distribution in distributions.items()]
        self.is_number = np.array([isinstance(c, _Number) for c in self._columns], dtype=bool)

    def __len__(self) -> int:
        return len(self._columns)

    def hold(self, params: Mapping[str, Any]) -> bool:
        """Return whether parameters have a valid value for every column."""
        try:
            self.encode([params])
        except (KeyError, TypeError, ValueError):
            return False
        return True

    def encode(self, params: Sequence[Mapping[str, Any]]) -> Rows:
        """Return parameters as rows, shape (candidates, parameters)."""
        rows = np.empty((len(params), len(self._columns)))
        for i, column in enumerate(self._columns):
            rows[:, i] = [column.encode(values[column.name]) for values in params]
        return rows

    def decode(self, rows: Rows) -> list[dict[str, Any]]:
        """Return rows as parameters."""
        if not len(rows):
            return []
        names = [column.name for column in self._columns]
        values = [column.decode(rows[:, i]) for i, column in enumerate(self._columns)]
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]

    def choices(self, rows: Rows) -> dict[str, NDArray[np.int64]]:
        """Return the index of the choice of every parameter; all must be categorical."""
        columns = rows.T.astype(np.int64, order="C")
        return {gene.name: column for gene, column in zip(self._columns, columns, strict=True)}

    def features(self, rows: Rows) -> Rows:
        """Return features for a regression: choices one-hot, numbers with their squares."""
        features = [column.features(rows[:, i]) for i, column in enumerate(self._columns)]
        return np.concatenate(features, axis=1)

    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        """Return rows that are drawn uniformly."""
        rows = [column.draw(count, rng) for column in self._columns]
        return np.stack(rows, axis=1)

    def cross(
        self, first: Rows, second: Rows, swapping_prob: float, rng: np.random.Generator
    ) -> Rows:
        """Return children with each gene from one of two parents (uniform crossover)."""
        swap = rng.random(first.shape) < swapping_prob
        return np.where(swap, second, first)

    def mutate(self, rows: Rows, prob: float, rng: np.random.Generator) -> Rows:
        """Return rows with new random values for some genes."""
        change = rng.random(rows.shape) < prob
        return np.where(change, self.draw(len(rows), rng), rows)

    def blend(self, first: Rows, second: Rows, rng: np.random.Generator) -> Rows:
        """Return children of simulated binary crossover, applied to numbers only.

        Deb and Agrawal 1995, equation 5, with one child per pair.
        """
        u = rng.random(first.shape)
        exponent = 1 / (_ETA + 1)
        beta = np.where(u <= 0.5, (2 * u) ** exponent, (2 * (1 - u)) ** -exponent)
        blended = 0.5 * ((1 + beta) * first + (1 - beta) * second)
        return self._snap(np.where(self.is_number, blended, first))

    def step(self, rows: Rows, prob: float, rng: np.random.Generator) -> Rows:
        """Return rows with a small random step for some numbers."""
        change = (rng.random(rows.shape) < prob) & self.is_number
        return self._snap(rows + np.where(change, rng.normal(0, _STEP, rows.shape), 0.0))

    def _snap(self, rows: Rows) -> Rows:
        snapped = [column.snap(rows[:, i]) for i, column in enumerate(self._columns)]
        return np.stack(snapped, axis=1)


class _Gene(Protocol):
    name: str

    def encode(self, value: Any) -> float: ...

    def decode(self, column: Rows) -> list[Any]: ...

    def features(self, column: Rows) -> Rows: ...

    def draw(self, count: int, rng: np.random.Generator) -> Rows: ...

    def snap(self, column: Rows) -> Rows: ...


class _Choice:
    def __init__(self, name: str, distribution: CategoricalDistribution) -> None:
        self.name = name
        self._distribution = distribution

    def encode(self, value: Any) -> float:
        return float(self._distribution.to_internal_repr(value))

    def decode(self, column: Rows) -> list[Any]:
        choices = self._distribution.choices
        return [choices[int(index)] for index in column]

    def features(self, column: Rows) -> Rows:
        # The first choice has no column: all columns are zero.
        indices = np.arange(1, len(self._distribution.choices))
        one_hot: Rows = (column[:, None] == indices).astype(float)
        return one_hot

    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        return rng.integers(len(self._distribution.choices), size=count).astype(float)

    def snap(self, column: Rows) -> Rows:
        return column


class _Number:
    def __init__(self, name: str, distribution: FloatDistribution | IntDistribution) -> None:
        self.name = name
        self._whole = isinstance(distribution, IntDistribution)
        self._bounds = distribution.low, distribution.high
        self._step = distribution.step
        self._log = distribution.log
        ends = [math.log(end) if self._log else float(end) for end in self._bounds]
        self._start, self._range = ends[0], (ends[1] - ends[0]) or 1.0
        # A distribution with a single value has the range 0.
        self._end = float(ends[1] > ends[0])
        # Half a step more on both sides, so that the ends of a grid are as likely as the rest.
        half = (self._step or 0) / 2
        low, high = self._bounds
        self._draw_range = self._to_unit(np.array([low - half, high + half])) * self._end

    def encode(self, value: Any) -> float:
        return float(self._to_unit(np.array([float(value)]))[0])

    def decode(self, column: Rows) -> list[Any]:
        values = self._to_value(column).tolist()
        return [round(value) for value in values] if self._whole else values

    def features(self, column: Rows) -> Rows:
        return np.stack((column, column**2), axis=1)

    def draw(self, count: int, rng: np.random.Generator) -> Rows:
        start, end = self._draw_range
        return self.snap(start + rng.random(count) * (end - start))

    def snap(self, column: Rows) -> Rows:
        inside = np.clip(column, 0.0, self._end)
        return inside if self._step is None else self._to_unit(self._to_value(inside))

    def _to_unit(self, values: Rows) -> Rows:
        unit: Rows = ((np.log(values) if self._log else values) - self._start) / self._range
        return unit

    def _to_value(self, column: Rows) -> Rows:
        values = self._start + column * self._range
        values = np.exp(values) if self._log else values
        low, high = self._bounds
        if self._step is not None:
            values = low + self._step * np.round((values - low) / self._step)
        return np.clip(values, low, high)


def _gene(name: str, distribution: BaseDistribution) -> _Gene:
    if isinstance(distribution, CategoricalDistribution):
        return _Choice(name, distribution)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return _Number(name, distribution)
