"""Rank correlations: of two sequences, or of thousands of resamples of them at once.

A resample is written as how often it holds each position of the sequences, so that all resamples
are one matrix, shape (resamples, positions), and a correlation of all of them is a few products
with it. A position that a resample holds twice is tied with itself, as by definition.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Rows of the matrix of pairs that are in memory at once.
_ROWS = 2048


def kendall_tau(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> float:
    """Compute Kendall's rank correlation (tau-a) of two sequences.

    1.0 for fewer than two values, NaN if one of them is NaN.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n_pairs = _pairs(np.array([len(a)]))
    if not n_pairs:
        return 1.0
    if np.isnan(a).any() or np.isnan(b).any():
        return math.nan
    # Knight (1966): after sorting by the first, and by the second where the first is tied, the
    # pairs that disagree are those that sorting by the second swaps.
    order = np.lexsort((b, a))
    tied = _tied(a[order, None]) + _tied(np.sort(b)[:, None])
    tied -= _tied(np.stack((a, b), axis=1)[order])
    _, ranks = np.unique(b[order], return_inverse=True)
    return (n_pairs - tied - 2 * _swaps(ranks)) / n_pairs


def resampled_tau_b(first: Floats, second: Floats, counts: Floats) -> Floats:
    """Compute Kendall's tau-b of every resample.

    Args:
        first: One sequence.
        second: The other one.
        counts: Resamples, shape (resamples, positions).

    Returns:
        One for each resample; NaN where all values of a sequence in it are equal.
    """
    untied = [_untied_pairs(values, counts) for values in (first, second)]
    # Products of whole numbers this small are exact in single precision, which is faster.
    single = counts.astype(np.float32)
    concordant = np.zeros(len(counts))
    for start in range(0, len(first), _ROWS):
        rows = slice(start, start + _ROWS)
        signs = _signs_of_pairs(first, rows) * _signs_of_pairs(second, rows)
        concordant += ((single @ signs.T) * counts[:, rows]).sum(axis=1)
    return _ratio(concordant / 2, np.sqrt(untied[0] * untied[1]))


def resampled_spearman(first: Floats, second: Floats, counts: Floats) -> Floats:
    """Compute Spearman's rho of every resample; see :func:`resampled_tau_b`."""
    middle = (counts.sum(axis=1, keepdims=True) + 1) / 2
    a, b = (_ranks(values, counts) - middle for values in (first, second))
    variances = (counts * a * a).sum(axis=1) * (counts * b * b).sum(axis=1)
    return _ratio((counts * a * b).sum(axis=1), np.sqrt(variances))


def _tied(rows: Floats) -> int:
    """Count the pairs of equal rows among rows that are sorted."""
    starts = np.flatnonzero(np.any(rows[1:] != rows[:-1], axis=1)) + 1
    return _pairs(np.diff(starts, prepend=0, append=len(rows)))


def _pairs(sizes: NDArray[np.int64]) -> int:
    return int((sizes * (sizes - 1) // 2).sum())


def _swaps(ranks: NDArray[np.int64]) -> int:
    """Count the pairs that are out of order, by a merge sort that merges all blocks at once."""
    size = len(ranks)
    places = np.arange(size)
    swaps, width = 0, 1
    while width < size:
        # Two blocks become one; of equal ranks that of the left block stays in front.
        blocks, is_left = places // (2 * width), places // width % 2 == 0
        order = np.argsort(blocks * size + ranks, kind="stable")
        ranks, is_left = ranks[order], is_left[order]
        # Only the last block may be short: all before it have ``width`` entries on the left.
        ahead = np.cumsum(is_left) - blocks * width
        swaps += int((np.minimum(width, size - blocks * 2 * width) - ahead)[~is_left].sum())
        width *= 2
    return swaps


def _signs_of_pairs(values: Floats, rows: slice) -> NDArray[np.float32]:
    return np.sign(values[rows, None] - values[None, :]).astype(np.float32)


def _untied_pairs(values: Floats, counts: Floats) -> Floats:
    _, tied = _by_value(values, counts)
    pairs: Floats = (counts.sum(axis=1) ** 2 - (tied**2).sum(axis=1)) / 2
    return pairs


def _ranks(values: Floats, counts: Floats) -> Floats:
    """Rank the values within each resample; ties share the mean of their ranks."""
    value_of, tied = _by_value(values, counts)
    ranks = np.cumsum(tied, axis=1) - (tied - 1) / 2
    return ranks[:, value_of]


def _by_value(values: Floats, counts: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Number the different values, and count how often resamples hold each of them."""
    _, value_of, sizes = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    return value_of, np.add.reduceat(counts[:, order], np.cumsum(sizes) - sizes, axis=1)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio
