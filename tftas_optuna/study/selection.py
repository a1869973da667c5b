"""Picks from a front: what fits a budget, the best, and the knee."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics import cost_names
from tftas_optuna.metrics.units import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

# Members of a front that are shown at the end of a search.
SHOWN = 20


def within(front: Sequence[Candidate], budgets: Mapping[str, float]) -> list[Candidate]:
    """Keep the part of a front within budgets: highest allowed value by name.

    Raises:
        UnavailableError: Nothing of the front is within them, or the study does not know a metric.
    """
    kept = [
        candidate
        for candidate in front
        if all(candidate.value(name) <= limit for name, limit in budgets.items())
    ]
    if front and not kept:
        limits = " and ".join(f"{name} <= {short(limit)}" for name, limit in budgets.items())
        least = ", ".join(
            f"{name} {short(min(candidate.value(name) for candidate in front))}"
            for name in budgets
        )
        raise UnavailableError(f"nothing on the front has {limits}; it begins at {least}")
    return kept


def merit(settings: StudySettings) -> tuple[str, int]:
    """Tell what makes one member of a front better than another, whatever it costs.

    Returns:
        The first objective that is an indicator, or else the first one; and the sign by which
        more of it is better, 1 or -1.
    """
    known = cost_names()
    objectives = settings.objectives
    name = next((name for name in objectives if name not in known), objectives[0])
    return name, 1 if settings.directions[objectives.index(name)] == "maximize" else -1


def best_first(front: Sequence[Candidate], settings: StudySettings) -> list[Candidate]:
    """Sort a front by its :func:`merit`, best first."""
    name, sign = merit(settings)
    return sorted(front, key=lambda candidate: -sign * candidate.value(name))


def knee(front: Sequence[Candidate], settings: StudySettings) -> Candidate:
    """Find the point farthest above the line between the ends of a front.

    The line is drawn in the plane of :func:`merit` against parameters.

    Raises:
        UnavailableError: The front is empty.
    """
    if not front:
        raise UnavailableError("the front is empty; run a search first")
    name, sign = merit(settings)
    worth = _normalised([sign * candidate.value(name) for candidate in front])
    n_params = _normalised([candidate.n_params for candidate in front])
    return front[int(np.argmax(worth - n_params))]


def spread(front: Sequence[Candidate], count: int) -> list[Candidate]:
    """Keep some members of a front, evenly spaced, both ends among them."""
    if len(front) <= count:
        return list(front)
    step = (len(front) - 1) / max(count - 1, 1)
    return [front[round(i * step)] for i in range(count)]


def _normalised(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.array(values, dtype=float)
    span = array.max() - array.min()
    return (array - array.min()) / span if span else np.zeros_like(array)
