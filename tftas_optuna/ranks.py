"""Rank correlation of two sequences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def kendall_tau(
    first: Sequence[float] | NDArray[np.float64], second: Sequence[float] | NDArray[np.float64]
) -> float:
    """Compute Kendall's rank correlation (tau-a) of two sequences; 1.0 for a single value.

    NaN where one of the values is.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n_pairs = _pairs(np.array([len(a)]))
    if not n_pairs:
        return 1.0
    if np.isnan(a).any() or np.isnan(b).any():
        return math.nan
    # Knight (1966): with the first in order, and the second where the first is tied, pairs that
    # disagree are those that sorting the second has to swap.
    order = np.lexsort((b, a))
    tied = _tied(a[order, None]) + _tied(np.sort(b)[:, None])
    tied -= _tied(np.stack((a, b), axis=1)[order])
    _, ranks = np.unique(b[order], return_inverse=True)
    return (n_pairs - tied - 2 * _swaps(ranks)) / n_pairs


def _tied(rows: NDArray[np.float64]) -> int:
    """Count the pairs of equal rows among rows that are sorted."""
    starts = np.flatnonzero(np.any(rows[1:] != rows[:-1], axis=1)) + 1
    return _pairs(np.diff(starts, prepend=0, append=len(rows)))


def _pairs(sizes: NDArray[np.int64]) -> int:
    return int((sizes * (sizes - 1) // 2).sum())


def _swaps(ranks: NDArray[np.int64]) -> int:
    """Count the pairs that are out of order, by a merge sort of all its blocks at once."""
    size = len(ranks)
    places = np.arange(size)
    swaps, width = 0, 1
    while width < size:
        # Two blocks become one; of equal ranks that of the left block stays in front.
        blocks, is_left = places // (2 * width), places // width % 2 == 0
        order = np.argsort(blocks * size + ranks, kind="stable")
        ranks, is_left = ranks[order], is_left[order]
        # Only the last block may be short: those before have as many on the left as are wide.
        ahead = np.cumsum(is_left) - blocks * width
        swaps += int((np.minimum(width, size - blocks * 2 * width) - ahead)[~is_left].sum())
        width *= 2
    return swaps
