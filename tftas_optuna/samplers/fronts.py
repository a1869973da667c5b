"""Selection of candidates: by rank and crowding, or by their gain in hypervolume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.samplers._optuna import is_front

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]
    Indices = NDArray[np.int64]

# Number of random points for the estimate of a hypervolume.
_POINTS = 4096
_MARGIN = 0.1
# Number of candidates whose gains are updated together, and computed together at first.
_BATCH = 64
_AT_ONCE = 256


def elite(losses: Rows, penalties: Rows, count: int) -> Indices:
    """Return the indices of the best candidates by rank and crowding, as in NSGA-II.

    Deb et al. 2002; candidates with a penalty come after all others.

    Args:
        losses: Objectives to minimise, shape (candidates, objectives).
        penalties: Sum of each candidate's constraint violations; zero means feasible.
        count: Maximum number of candidates to return.
    """
    if not len(losses):
        return np.empty(0, dtype=np.int64)
    ranks = domination_ranks(losses, penalties, count)
    # All ranks up to this one are needed, the last one perhaps only in part.
    last = min(count, len(ranks)) - 1
    members = np.flatnonzero(ranks <= np.partition(ranks, last)[last])
    ranks, losses = ranks[members], losses[members]
    crowding = np.full(len(members), np.inf)
    for rank in np.flatnonzero(np.bincount(ranks) > 2):
        same = np.flatnonzero(ranks == rank)
        crowding[same] = _crowding(losses[same])
    order: Indices = members[np.lexsort((-crowding, ranks))[:count]]
    return order


def domination_ranks(losses: Rows, penalties: Rows, count: int) -> Indices:
    """Return the domination ranks of candidates, from 0; those with a penalty come last.

    Args:
        losses: Objectives to minimise, shape (candidates, objectives).
        penalties: Sum of each candidate's constraint violations, shape (candidates,).
        count: Number of best candidates to rank; all others share the last rank.
    """
    feasible = penalties <= 0
    ranks = np.empty(len(losses), dtype=np.int64)
    ranks[feasible] = _ranks(losses[feasible], count)
    n_feasible = int(feasible.sum())
    if n_feasible < len(losses):
        first = ranks[feasible].max(initial=-1) + 1
        ranks[~feasible] = first + _ranks(penalties[~feasible, None], count - n_feasible)
    return ranks


def _ranks(losses: Rows, count: int) -> Indices:
    """Return ranks by fast non-dominated sorting, of at least ``count`` distinct candidates."""
    if not len(losses) or count <= 0:
        return np.zeros(len(losses), dtype=np.int64)
    if losses.shape[1] == 1:
        return np.unique(losses[:, 0], return_inverse=True)[1]
    order = np.argsort(losses[:, 0])
    # Sorting by all objectives, as ``np.unique`` does, takes ten times as long.
    if not (np.diff(losses[order, 0]) > 0).all():
        order = np.lexsort(losses.T[::-1])
    left = losses[order]
    is_new = np.append(True, (left[1:] != left[:-1]).any(axis=1))
    left = left[is_new]
    ranks = np.empty(len(left), dtype=np.int64)
    places = np.arange(len(left))
    rank = 0
    while len(places) and len(ranks) - len(places) < count:
        marks = is_front(left)
        ranks[places[marks]] = rank
        left, places = left[~marks], places[~marks]
        rank += 1
    ranks[places] = rank
    of_all = np.empty(len(losses), dtype=np.int64)
    of_all[order] = ranks[np.cumsum(is_new) - 1]
    return of_all


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
    """Choose greedily the candidates that add the most hypervolume to a front.

    The gain of a candidate only shrinks as others are chosen, so gains are updated only for the
    candidates that seem to be the best (lazy greedy, Minoux 1978), a batch at a time. If no
    candidate has a gain, the rest is chosen by rank and crowding.

    Args:
        front: Losses of the front, shape (members, objectives); may contain dominated members.
        candidates: Losses of the candidates, shape (candidates, objectives).
        count: Maximum number of candidates to choose.
        rng: Random generator of the estimate for three or more objectives.

    Returns:
        Indices of the candidates, in the order of the choice.
    """
    losses = np.concatenate((front, candidates))
    low, high = losses.min(axis=0), losses.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    front = front[domination_ranks(front, np.zeros(len(front)), 1) == 0]
    front, scaled = (front - low) / width, (candidates - low) / width
    make = _Staircase if candidates.shape[1] == 2 else _Points
    volume = make(front, scaled, rng)
    gains = volume.gains(np.arange(len(volume.adding)))
    fresh = np.ones(len(gains), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < count and gains.any():
        best = int(gains.argmax())
        if fresh[best]:
            fresh &= ~volume.take(best)
            chosen.append(int(volume.adding[best]))
            gains[best] = 0.0
            continue
        batch = np.argpartition(-gains, min(_BATCH, len(gains)) - 1)[:_BATCH]
        # With many equal gains the batch may not contain the best.
        batch = np.append(batch[~fresh[batch]], best)
        gains[batch] = volume.gains(batch)
        fresh[batch] = True
    if len(chosen) < count:
        rest = np.setdiff1d(np.arange(len(candidates)), chosen)
        order = elite(scaled[rest], np.zeros(len(rest)), count - len(chosen))
        chosen += rest[order].tolist()
    return np.array(chosen, dtype=np.int64)


class _Staircase:
    """Exact hypervolume gains for two objectives; all points are in the unit square.

    Attributes:
        adding: Indices of the candidates that add to the front, which are the only ones from
            here on: most are dominated by it.
    """

    def __init__(self, front: Rows, candidates: Rows, rng: np.random.Generator) -> None:
        self._reference = 1.0 + _MARGIN
        self._build(front)
        x, y = candidates.T
        self.adding = np.flatnonzero(y < self._height_at(x))
        self._x, self._y = x[self.adding], y[self.adding]

    def _build(self, points: Rows) -> None:
        """Compute the ends of each step, and the height above which points are dominated."""
        points = points[np.lexsort((points[:, 1], points[:, 0]))]
        heights = np.minimum.accumulate(points[:, 1]) if len(points) else points[:, 1]
        self._points = points
        self._left = np.concatenate(([-np.inf], points[:, 0]))
        self._right = np.concatenate((points[:, 0], [self._reference]))
        self._height = np.concatenate(([self._reference], heights))

    def _height_at(self, x: Rows) -> Rows:
        heights: Rows = self._height[np.searchsorted(self._points[:, 0], x, side="right")]
        return heights

    def gains(self, indices: Indices) -> Rows:
        added = np.empty(len(indices))
        for start in range(0, len(indices), _AT_ONCE):
            some = indices[start : start + _AT_ONCE]
            x, y = self._x[some, None], self._y[some, None]
            areas = np.maximum(self._right - np.maximum(self._left, x), 0.0)
            areas *= np.maximum(self._height - y, 0.0)
            added[start : start + _AT_ONCE] = areas.sum(axis=1)
        return added

    def take(self, index: int) -> NDArray[np.bool_]:
        """Add a candidate; return which candidates add less from now on."""
        x, y = self._x[index], self._y[index]
        # Above the one and right of the other, the front dominated all that this one does.
        top, end = self._height_at(x), self._right[np.count_nonzero(self._height > y) - 1]
        less: NDArray[np.bool_] = (self._x < end) & (self._y < top)
        points = np.concatenate((self._points, [[x, y]]))
        points = points[np.lexsort((points[:, 1], points[:, 0]))]
        before = np.concatenate(([np.inf], np.minimum.accumulate(points[:, 1])[:-1]))
        self._build(points[points[:, 1] < before])
        return less


class _Points:
    """Hypervolume gains estimated by the number of random points that candidates dominate.

    Attributes:
        adding: As for two objectives.
    """

    def __init__(self, front: Rows, candidates: Rows, rng: np.random.Generator) -> None:
        points = rng.random((_POINTS, candidates.shape[1])) * (1 + _MARGIN)
        points = points[~_reached(front, points).any(axis=0)]
        reached = _reached(candidates, points)
        self.adding = np.flatnonzero(reached.any(axis=1))
        self._reached = reached[self.adding]
        self._free = np.ones(len(points), dtype=bool)

    def gains(self, indices: Indices) -> Rows:
        added: Rows = (self._reached[indices] & self._free).sum(axis=1).astype(float)
        return added

    def take(self, index: int) -> NDArray[np.bool_]:
        self._free &= ~self._reached[index]
        return np.ones(len(self._reached), dtype=bool)


def _reached(candidates: Rows, points: Rows) -> NDArray[np.bool_]:
    """Return which points each candidate dominates, shape (candidates, points)."""
    reached = np.ones((len(candidates), len(points)), dtype=bool)
    for start in range(0, len(candidates), _AT_ONCE):
        some = reached[start : start + _AT_ONCE]
        losses = candidates[start : start + _AT_ONCE].T
        for of_candidates, of_points in zip(losses, points.T.copy(), strict=True):
            some &= of_candidates[:, None] <= of_points
    return reached
