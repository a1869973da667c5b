"""Compares trainings with several seeds: which differences are larger than seeds make."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    T = TypeVar("T")


def compare(finished: Mapping[T, Sequence[float]]) -> dict[T, dict[str, Any]]:
    """Compare networks with the best one by their accuracies.

    Args:
        finished: For each network the top-1 of its trainings in per cent, one for each seed; none
            for a network that did not finish.

    Returns:
        For each network ``top1``, the mean, if there is one; ``sd``, the standard deviation of
        two or more; ``seeds``, their number; ``behind``, by how much the best mean is higher;
        ``margin``, two standard errors of that difference, by :func:`pooled_sd`; and whether it
        ``differs``: whether it is more than that. None where it is unknown, and for the best.
    """
    means = {key: statistics.fmean(values) for key, values in finished.items() if values}
    best = max(means, key=lambda key: means[key], default=None)
    spread = pooled_sd(list(finished.values()))

    def compared(key: T) -> dict[str, Any]:
        values = finished[key]
        behind, margin = None, None
        if best is not None and values and key is not best:
            behind = means[best] - means[key]
            if spread is not None:
                margin = 2 * spread * math.sqrt(1 / len(values) + 1 / len(finished[best]))
        return {
            **({"top1": means[key]} if values else {}),
            "sd": statistics.stdev(values) if len(values) > 1 else None,
            "seeds": len(values),
            "behind": behind,
            "margin": margin,
            "differs": None if behind is None or margin is None else behind > margin,
        }

    return {key: compared(key) for key in finished}


def pooled_sd(groups: Sequence[Sequence[float]]) -> float | None:
    """Return the standard deviation within groups, None if no group has two values."""
    several = [group for group in groups if len(group) > 1]
    if not several:
        return None
    squares = math.fsum(statistics.variance(group) * (len(group) - 1) for group in several)
    return math.sqrt(squares / sum(len(group) - 1 for group in several))
