"""The hypervolume of a front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.study._optuna import compute_hypervolume, is_front

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from tftas_optuna.metrics import Meters
    from tftas_optuna.study.settings import StudySettings


class Hypervolume:
    """Computes the hypervolume that a set of objective values dominates.

    The reference point of an indicator is zero, or the worst value of the set if the indicator is
    minimised or has no value above zero. Costs are scaled to the range between the space's
    smallest and largest architecture, so a front with the score ``s`` at every cost has a
    hypervolume of ``s``.

    Args:
        settings: The settings of the study.
        meters: The costs of the study.
    """

    def __init__(self, settings: StudySettings, meters: Meters) -> None:
        self._directions = settings.directions
        corners = settings.space.smallest(), settings.space.largest()
        self._ranges: list[tuple[float, float] | None] = []
        for name in settings.objectives:
            ends = [meters.cost(name, arch) for arch in corners] if name in meters else []
            self._ranges.append((min(ends), max(ends)) if ends else None)

    def __call__(self, values: Iterable[Sequence[float]]) -> float:
        """Return the hypervolume of feasible points, given in the order of the objectives."""
        points = np.array([list(point) for point in values], dtype=float)
        if not points.size:
            return 0.0
        reference = np.zeros(len(self._directions))
        for i, (direction, ends) in enumerate(zip(self._directions, self._ranges, strict=True)):
            sign = -1 if direction == "maximize" else 1
            if ends is not None:
                low, high = ends
                points[:, i] = (points[:, i] - low) / ((high - low) or 1)
                reference[i] = 1.0 if sign > 0 else 0.0
            points[:, i] *= sign
            if ends is None:
                from_worst = sign > 0 or points[:, i].min() >= 0
                reference[i] = points[:, i].max() if from_worst else 0.0
        return compute_hypervolume(np.minimum(points, reference), reference)


def front_rows(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the undominated rows without repeats; lower is better in every column."""
    distinct = np.unique(losses, axis=0)
    return distinct[is_front(distinct)] if len(distinct) else distinct
