"""Rank correlations of one sample and of thousands of its bootstrap resamples at once.

A resample is written as how often it holds each architecture, so that all resamples are one
matrix, shape (resamples, architectures), and a correlation of all of them is a few products with
it. An architecture that a resample holds twice is tied with itself, as by definition.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Rows of the matrix of pairs that are in memory at once.
_ROWS = 2048


def draw_resamples(size: int, n_resamples: int, seed: int) -> Floats:
    """Draw bootstrap resamples, as counts, shape (n_resamples, size)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(size, np.full(size, 1 / size), n_resamples).astype(np.float64)


def kendall_taus(first: Floats, second: Floats, counts: Floats) -> Floats:
    """Compute Kendall's tau-b of every resample.

    Args:
        first: One value for each architecture.
        second: Another.
        counts: Resamples, shape (resamples, architectures).

    Returns:
        One for each resample; NaN where one of the values is the same all over it.
    """
    untied = [_untied_pairs(values, counts) for values in (first, second)]
    # Products of whole numbers this small are exact in single precision, which is faster.
    single = counts.astype(np.float32)
    concordant = np.zeros(len(counts))
    for start in range(0, len(first), _ROWS):
        rows = slice(start, start + _ROWS)
        signs = _signs(first, rows) * _signs(second, rows)
        concordant += ((single @ signs.T) * counts[:, rows]).sum(axis=1)
    return _ratio(concordant / 2, np.sqrt(untied[0] * untied[1]))


def spearman_rhos(first: Floats, second: Floats, counts: Floats) -> Floats:
    """Compute Spearman's rho of every resample; see :func:`kendall_taus`."""
    middle = (counts.sum(axis=1, keepdims=True) + 1) / 2
    a, b = (_ranks(values, counts) - middle for values in (first, second))
    variances = (counts * a * a).sum(axis=1) * (counts * b * b).sum(axis=1)
    return _ratio((counts * a * b).sum(axis=1), np.sqrt(variances))


def interval(resampled: Floats) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of what is defined of a statistic; None of nothing."""
    defined = resampled[np.isfinite(resampled)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def _signs(values: Floats, rows: slice) -> NDArray[np.float32]:
    return np.sign(values[rows, None] - values[None, :]).astype(np.float32)


def _untied_pairs(values: Floats, counts: Floats) -> Floats:
    _, tied = _groups(values, counts)
    pairs: Floats = (counts.sum(axis=1) ** 2 - (tied**2).sum(axis=1)) / 2
    return pairs


def _ranks(values: Floats, counts: Floats) -> Floats:
    """Rank the values within each resample; ties share the mean of their ranks."""
    group_of, tied = _groups(values, counts)
    ranks = np.cumsum(tied, axis=1) - (tied - 1) / 2
    return ranks[:, group_of]


def _groups(values: Floats, counts: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return which of the different values each one is, and how often resamples hold those."""
    _, group_of, sizes = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    return group_of, np.add.reduceat(counts[:, order], np.cumsum(sizes) - sizes, axis=1)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio
