"""Rank correlation of two sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def kendall_tau(
    first: Sequence[float] | NDArray[np.float64], second: Sequence[float] | NDArray[np.float64]
) -> float:
    """Compute Kendall's rank correlation (tau-a) of two sequences; 1.0 for a single value."""
    a, b = np.asarray(first), np.asarray(second)
    i, j = np.triu_indices(len(a), k=1)
    if not len(i):
        return 1.0
    return float(np.mean(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])))
