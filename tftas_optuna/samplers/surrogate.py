"""Surrogate model that predicts objectives of candidates from finished trials.

It is a ridge regression on the features, plus a Gaussian kernel regression on the residuals of
the nearest candidates. Both choose their regularisation by the leave-one-out error, which has a
closed form; see :mod:`tftas_optuna.ridge`. ``benchmarks/surrogates.py`` compares it with
other models.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tftas_optuna.ranks import kendall_tau
from tftas_optuna.ridge import Ridge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]

_PENALTIES = np.logspace(-7, 3, 31)
_WIDTHS = (0.35, 0.7, 1.4, 2.8)
_ROWS_FOR_WIDTH = 150
_NOISES = np.logspace(-7, 1, 17)
_TINY = 1e-9
# Candidates that are predicted together: their kernel stays in the cache of the processor.
_TOGETHER = 256


class Surrogate:
    """Predicts one value of candidates from their features.

    Args:
        features: Features, shape (candidates, features).
        values: Finite values, shape (candidates,).
        nearest: Indices of the rows that the kernel uses, around which accuracy matters most; its
            time grows with the cube of their number.
    """

    def __init__(self, features: Rows, values: Rows, nearest: NDArray[np.int64]) -> None:
        # Positive values, such as scores and times, are easier to predict on a log scale.
        self._log = bool(values.min() > 0)
        targets = np.log(values) if self._log else values
        self._center, scale = features.mean(axis=0), features.std(axis=0)
        self._kept = scale > _TINY
        self._scale = scale[self._kept] * np.sqrt(max(self._kept.sum(), 1))
        inputs = self._inputs(features)
        self._ridge = Ridge(inputs, targets, _PENALTIES * len(targets))
        # Inputs that matter in the regression get more weight in the kernel.
        self._weights = _importances(self._ridge.weights)
        self._kernel = _Kernel(inputs[nearest] * self._weights, self._ridge.left_out[nearest])
        self._nearest_targets = targets[nearest]

    @cached_property
    def agreement(self) -> float:
        """Kendall's tau between values of the nearest rows and leave-one-out predictions."""
        predicted = self._nearest_targets - self._kernel.left_out
        return kendall_tau(predicted, self._nearest_targets)

    def predict(self, features: Rows) -> Rows:
        """Return the predicted values of candidates, shape (candidates,)."""
        inputs = self._inputs(features)
        targets = self._ridge.predict(inputs) + self._kernel.predict(inputs * self._weights)
        values: Rows = np.exp(targets) if self._log else targets
        return values

    def _inputs(self, features: Rows) -> Rows:
        inputs: Rows = (features - self._center)[:, self._kept] / self._scale
        return inputs


def _importances(weights: Rows) -> Rows:
    """Return the square roots of absolute weights, scaled to a mean square of one."""
    roots: Rows = np.sqrt(np.abs(weights))
    return roots / max(float(np.sqrt(np.mean(roots**2))), _TINY) if roots.size else roots


class _Kernel:
    """Kernel ridge regression with a Gaussian kernel.

    Attributes:
        left_out: Leave-one-out error of each row, shape (rows,).
    """

    def __init__(self, inputs: Rows, targets: Rows) -> None:
        squares = _squares(inputs)
        # A subset of the rows is enough to choose the width, in an eighth of the time.
        step = max(-(-len(targets) // _ROWS_FOR_WIDTH), 1)
        some, some_targets = squares[::step, ::step], targets[::step]
        fits = [_fit_kernel(some, some_targets, width) for width in _WIDTHS]
        best = min(range(len(_WIDTHS)), key=lambda i: fits[i].error)
        fit, width = fits[best], _WIDTHS[best]
        if step > 1:
            fit = _fit_kernel(squares, targets, width)
        self._weights, self.left_out = fit.weights, fit.left_out
        lengths = (inputs**2).sum(axis=1, keepdims=True)
        columns = np.concatenate((-2 * inputs, np.ones_like(lengths), lengths), axis=1)
        self._columns = columns.T / (-2 * width**2)

    def predict(self, inputs: Rows) -> Rows:
        if not self._weights.any():
            return np.zeros(len(inputs))
        # With two columns more, one product gives the exponents: minus the squared distances.
        lengths = (inputs**2).sum(axis=1, keepdims=True)
        rows = np.concatenate((inputs, lengths, np.ones_like(lengths)), axis=1)
        targets = np.empty(len(rows))
        for start in range(0, len(rows), _TOGETHER):
            exponents = rows[start : start + _TOGETHER] @ self._columns
            kernel = np.exp(np.minimum(exponents, 0.0, out=exponents), out=exponents)
            targets[start : start + _TOGETHER] = kernel @ self._weights
        return targets


class _KernelFit(NamedTuple):
    """The weights of the rows in a kernel regression, and their leave-one-out errors."""

    error: float
    weights: Rows
    left_out: Rows


def _fit_kernel(squares: Rows, targets: Rows, width: float) -> _KernelFit:
    """Fit a kernel with the noise of the lowest error, or with zero weights if that is better."""
    values, vectors = np.linalg.eigh(np.exp(-squares / (2 * width**2)))
    coefficients = vectors.T @ targets
    # A column for each noise.
    inverses = 1 / (np.maximum(values, 0)[:, None] + _NOISES)
    weights = vectors @ (inverses * coefficients[:, None])
    left_out = weights / ((vectors**2) @ inverses)
    errors = np.mean(left_out**2, axis=0)
    best, zero = int(errors.argmin()), float(np.mean(targets**2))
    if errors[best] < zero:
        return _KernelFit(float(errors[best]), weights[:, best], left_out[:, best])
    return _KernelFit(zero, np.zeros(len(targets)), targets)


def _squares(rows: Rows) -> Rows:
    """Return the squared distances between all rows."""
    lengths = (rows**2).sum(axis=1)
    squares: Rows = np.maximum(lengths[:, None] + lengths - 2 * rows @ rows.T, 0.0)
    return squares
