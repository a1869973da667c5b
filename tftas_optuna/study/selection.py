"""Selection of members of a front: within budgets, the best, the knee, some spread over it."""

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

# Most members of a front that are shown at the end of a search.
SHOWN = 20
# Of several that as many members have, the first one ranks them.
_ACCURACIES = ("top1", "shared_top1")


def within(front: Sequence[Candidate], budgets: Mapping[str, float]) -> list[Candidate]:
    """Return the members of a front within budgets, given as highest allowed values by name.

    Raises:
        UnavailableError: No member is within the budgets, or the study does not have a metric.
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
    """Return the objective that ranks the members of a front, and its sign.

    Returns:
        The name of the first objective that is an indicator, or else of the first one; and 1 if
        higher is better, -1 if lower is.
    """
    costs = cost_names()
    objectives = settings.objectives
    name = next((name for name in objectives if name not in costs), objectives[0])
    return name, 1 if settings.directions[objectives.index(name)] == "maximize" else -1


def best_first(front: Sequence[Candidate], settings: StudySettings) -> list[Candidate]:
    """Sort a front, best first, by one kind of accuracy or by :func:`merit`.

    Accuracies of a training of its own and of shared training do not compare. What all members
    have ranks them, their own trainings before shared ones; else what most of them have, and the
    others follow by merit. An accuracy that a single one of several members has ranks nothing.
    """
    name, sign = merit(settings)
    kind = _accuracy(front)

    def place(candidate: Candidate) -> tuple[bool, float, float]:
        accuracy = None if kind is None else getattr(candidate, kind)
        return accuracy is None, -(accuracy or 0.0), -sign * candidate.value(name)

    return sorted(front, key=place)


def ranked_by(front: Sequence[Candidate], settings: StudySettings) -> str:
    """Say in one line what :func:`best_first` sorts a front by."""
    kind, label = _accuracy(front), settings.label(merit(settings)[0])
    if kind is None:
        return f"Best first, by {label}."
    count = sum(getattr(candidate, kind) is not None for candidate in front)
    if count == len(front):
        return f"Best first, by {kind}."
    return f"Best first, by {kind}, which {count} of {len(front)} have; the others by {label}."


def _accuracy(front: Sequence[Candidate]) -> str | None:
    """Return the attribute with the accuracy that ranks a front; None if none does."""
    counts = {
        kind: sum(getattr(candidate, kind) is not None for candidate in front)
        for kind in _ACCURACIES
    }
    kind = max(_ACCURACIES, key=lambda kind: counts[kind])
    return kind if counts[kind] > 1 or 0 < counts[kind] == len(front) else None


def knee(front: Sequence[Candidate], settings: StudySettings) -> Candidate:
    """Return the member farthest above the line between the ends of a front.

    The line is in the plane of :func:`merit` against parameters.

    Raises:
        UnavailableError: The front is empty.
    """
    if not front:
        raise UnavailableError("the front is empty; run a search first")
    name, sign = merit(settings)
    merits = _normalised([sign * candidate.value(name) for candidate in front])
    n_params = _normalised([candidate.n_params for candidate in front])
    return front[int(np.argmax(merits - n_params))]


def cost_of(settings: StudySettings) -> str:
    """Return the cost that the members of a front are spread by and bounded in.

    It is the first objective that is a cost; without one, ``n_params``.
    """
    costs = cost_names()
    return next((name for name in settings.objectives if name in costs), "n_params")


def spread(front: Sequence[Candidate], count: int, settings: StudySettings) -> list[Candidate]:
    """Return up to ``count`` members spread over a front, in its order.

    They are the cheapest, the most expensive, and those nearest to even steps of the logarithm of
    :func:`cost_of` between them.
    """
    if len(front) <= count:
        return list(front)
    costs = np.array([candidate.value(cost_of(settings)) for candidate in front])
    order = np.argsort(costs, kind="stable")
    places = np.log(costs[order]) if costs.min() > 0 else costs[order]
    chosen: list[int] = []
    for i, target in enumerate(np.linspace(places[0], places[-1], count)):
        # Nobody is taken twice, and one is left for each step that follows.
        first, end = chosen[-1] + 1 if chosen else 0, len(front) - count + i + 1
        chosen.append(first + int(np.argmin(abs(places[first:end] - target))))
    return [front[i] for i in sorted(order[chosen])]


def _normalised(values: Sequence[float]) -> NDArray[np.float64]:
    array = np.array(values, dtype=float)
    span = array.max() - array.min()
    return (array - array.min()) / span if span else np.zeros_like(array)
