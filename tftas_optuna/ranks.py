"""Rank correlations of sequences, and of many resamples of them at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Rows of the matrix of pairs that are in memory at the same time.
_ROWS = 2048


def kendall_tau(first: Sequence[float] | Floats, second: Sequence[float] | Floats) -> float:
    """Return Kendall's rank correlation (tau-a) of two sequences.

    It is 1.0 for fewer than two values, and NaN if any value is NaN.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n_pairs = _pairs(np.array([len(a)]))
    if not n_pairs:
        return 1.0
    if np.isnan(a).any() or np.isnan(b).any():
        return math.nan
    # Knight (1966): after sorting by the first sequence and breaking ties by the second, the
    # discordant pairs are those that a sort by the second sequence swaps.
    order = np.lexsort((b, a))
    n_tied = _tied_pairs(a[order, None]) + _tied_pairs(np.sort(b)[:, None])
    n_tied -= _tied_pairs(np.stack((a, b), axis=1)[order])
    _, ranks = np.unique(b[order], return_inverse=True)
    return (n_pairs - n_tied - 2 * _swaps(ranks)) / n_pairs


def resampled_tau_b(first: Floats, second: Floats, counts: Floats) -> Floats:
    """Return Kendall's tau-b of every resample.

    A resample is represented by the count of each position of the sequences. All resamples form
    a matrix, and their correlations are a few products with it. A position that occurs twice in
    a resample is tied with itself.

    Args:
        first: The first sequence.
        second: The second sequence.
        counts: Counts of the positions in each resample, shape (resamples, positions).

    Returns:
        Shape (resamples,); NaN if all values of a sequence are equal in a resample.
    """
    untied = [_untied_pairs(values, counts) for values in (first, second)]
    # Single precision is faster, and exact for products of such small integers.
    single = counts.astype(np.float32)
    concordant = np.zeros(len(counts))
    for start in range(0, len(first), _ROWS):
        rows = slice(start, start + _ROWS)
        signs = _signs_of_pairs(first, rows) * _signs_of_pairs(second, rows)
        concordant += ((single @ signs.T) * counts[:, rows]).sum(axis=1)
    return _ratio(concordant / 2, np.sqrt(untied[0] * untied[1]))


def resampled_spearman(first: Floats, second: Floats, counts: Floats) -> Floats:
    """Return Spearman's rho of every resample; see :func:`resampled_tau_b`."""
    middle = (counts.sum(axis=1, keepdims=True) + 1) / 2
    a, b = (_ranks(values, counts) - middle for values in (first, second))
    variances = (counts * a * a).sum(axis=1) * (counts * b * b).sum(axis=1)
    return _ratio((counts * a * b).sum(axis=1), np.sqrt(variances))


def _tied_pairs(rows: Floats) -> int:
    """Count the pairs of equal rows among sorted rows."""
    starts = np.flatnonzero(np.any(rows[1:] != rows[:-1], axis=1)) + 1
    return _pairs(np.diff(starts, prepend=0, append=len(rows)))


def _pairs(sizes: NDArray[np.int64]) -> int:
    return int((sizes * (sizes - 1) // 2).sum())


def _swaps(ranks: NDArray[np.int64]) -> int:
    """Count the pairs that are out of order, by a merge sort that merges all blocks at once."""
    size = len(ranks)
    positions = np.arange(size)
    swaps, width = 0, 1
    while width < size:
        # Merge pairs of blocks; for equal ranks the entry of the left block stays first.
        blocks, is_left = positions // (2 * width), positions // width % 2 == 0
        order = np.argsort(blocks * size + ranks, kind="stable")
        ranks, is_left = ranks[order], is_left[order]
        # Only the last block can be short; all others have ``width`` entries on the left.
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
    """Return the ranks of the values in each resample; ties share their mean rank."""
    index, tied = _by_value(values, counts)
    ranks = np.cumsum(tied, axis=1) - (tied - 1) / 2
    return ranks[:, index]


def _by_value(values: Floats, counts: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the index of each value among the distinct ones, and their counts per resample."""
    _, index, sizes = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(values, kind="stable")
    return index, np.add.reduceat(counts[:, order], np.cumsum(sizes) - sizes, axis=1)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    ratio: Floats = np.divide(
        numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0
    )
    return ratio
