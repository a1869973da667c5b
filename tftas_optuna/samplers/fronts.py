"""Choosing among many candidates: by rank and crowding, or by what they add to a front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.samplers._optuna import domination_ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]
    Indices = NDArray[np.int64]

# Random points that estimate a volume which is not computed in closed form.
_POINTS = 4096
_MARGIN = 0.1
# Candidates whose gains are computed again together.
_HANDFUL = 64


def elite(losses: Rows, penalties: Rows, count: int) -> Indices:
    """Order candidates by rank and crowding as NSGA-II does, and return the first of them.

    Deb et al. 2002; those with a penalty come behind all without.

    Args:
        losses: Less is better, shape (candidates, objectives).
        penalties: Sum of a candidate's constraint violations, zero where it has none.
        count: How many to return, at most.
    """
    if not len(losses):
        return np.empty(0, dtype=np.int64)
    ranks = domination_ranks(losses, penalties, count)
    crowding = np.zeros(len(losses))
    # Only the last rank that is needed may be taken in part.
    last = np.sort(ranks)[min(count, len(ranks)) - 1]
    for rank in range(last + 1):
        members = np.flatnonzero(ranks == rank)
        crowding[members] = _crowding(losses[members])
    order: Indices = np.lexsort((-crowding, ranks))[:count]
    return order


def _crowding(losses: Rows) -> Rows:
    distances = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        gaps = np.full(len(losses), np.inf)
        width = column[order[-1]] - column[order[0]]
        if len(losses) > 2 and width > 0:
            gaps[1:-1] = (column[order[2:]] - column[order[:-2]]) / width
        distances[order] += gaps
    return distances


def most_added(front: Rows, candidates: Rows, count: int, rng: np.random.Generator) -> Indices:
    """Choose the candidates that together add most hypervolume to a front, greedily.

    The gain of a candidate only shrinks as others are chosen, so it is computed again only while
    the candidate seems to be the best (lazy greedy, Minoux 1978), a handful at once. When none
    adds anything more, the rest is chosen by rank and crowding.

    Args:
        front: Losses of the front, shape (members, objectives); dominated ones do no harm.
        candidates: Losses to choose from, shape (candidates, objectives).
        count: How many to choose, at most.
        rng: Randomness of the estimate for three objectives or more.

    Returns:
        Indices, in the order of the choice.
    """
    everything = np.concatenate((front, candidates))
    low, high = everything.min(axis=0), everything.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    front = front[domination_ranks(front, np.zeros(len(front)), 1) == 0]
    front, candidates = (front - low) / width, (candidates - low) / width
    make = _Staircase if candidates.shape[1] == 2 else _Points
    volume = make(front, candidates, rng)
    gains = volume.gains(np.arange(len(candidates)))
    fresh = np.ones(len(candidates), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        if fresh[best]:
            volume.take(best)
            chosen.append(best)
            gains[best] = 0.0
            fresh[:] = False
            continue
        handful = np.argpartition(-gains, min(_HANDFUL, len(gains)) - 1)[:_HANDFUL]
        # Among many equal gains the handful may miss the best.
        handful = np.append(handful, best)
        gains[handful] = volume.gains(handful)
        fresh[handful] = True
    if len(chosen) < count:
        others = np.setdiff1d(np.arange(len(candidates)), chosen)
        order = elite(candidates[others], np.zeros(len(others)), count - len(chosen))
        chosen += others[order].tolist()
    return np.array(chosen, dtype=np.int64)


class _Staircase:
    """Area that points add to a front of two objectives, exactly; all in the unit square."""

    def __init__(self, front: Rows, candidates: Rows, rng: np.random.Generator) -> None:
        self._candidates = candidates
        self._reference = 1.0 + _MARGIN
        self._build(front)

    def _build(self, points: Rows) -> None:
        """Compute where each step begins and ends, and the height above which it is dominated."""
        points = points[np.lexsort((points[:, 1], points[:, 0]))]
        heights = np.minimum.accumulate(points[:, 1]) if len(points) else points[:, 1]
        self._points = points
        self._left = np.concatenate(([-np.inf], points[:, 0]))
        self._right = np.concatenate((points[:, 0], [self._reference]))
        self._height = np.concatenate(([self._reference], heights))

    def gains(self, indices: Indices) -> Rows:
        points = self._candidates[indices]
        widths = np.maximum(self._right - np.maximum(self._left, points[:, :1]), 0.0)
        heights = np.maximum(self._height - points[:, 1:], 0.0)
        added: Rows = (widths * heights).sum(axis=1)
        return added

    def take(self, index: int) -> None:
        points = np.concatenate((self._points, self._candidates[index][None]))
        points = points[np.lexsort((points[:, 1], points[:, 0]))]
        before = np.concatenate(([np.inf], np.minimum.accumulate(points[:, 1])[:-1]))
        self._build(points[points[:, 1] < before])


class _Points:
    """Volume that points add to a front, estimated by the random points that they dominate."""

    def __init__(self, front: Rows, candidates: Rows, rng: np.random.Generator) -> None:
        points = rng.random((_POINTS, candidates.shape[1])) * (1 + _MARGIN)
        free = ~np.any(np.all(front[:, None] <= points, axis=2), axis=0)
        self._reached = np.all(candidates[:, None] <= points[free], axis=2)
        self._free = np.ones(int(free.sum()), dtype=bool)

    def gains(self, indices: Indices) -> Rows:
        added: Rows = (self._reached[indices] & self._free).sum(axis=1).astype(float)
        return added

    def take(self, index: int) -> None:
        self._free &= ~self._reached[index]
