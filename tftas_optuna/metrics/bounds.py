"""Checks of objectives and bounds before a search, and violations of bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tftas_optuna._given import listed
from tftas_optuna.errors import TftasError, did_you_mean
from tftas_optuna.metrics.cost import Target
from tftas_optuna.metrics.registry import cost_names, get_cost, metric_names
from tftas_optuna.metrics.units import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np
    from numpy.typing import NDArray

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace

Values = TypeVar("Values", float, "NDArray[np.float64]")
Bound = tuple[float | None, float | None]
Bounds = dict[str, Bound]


def check_objectives(objectives: str | Iterable[str], family: str) -> tuple[str, ...]:
    """Check that objectives exist, are unique, and are available for a family.

    Raises:
        TftasError: There are no objectives, or one is unknown, given twice or not available for
            the family.
    """
    objectives = tuple(listed(objectives))
    allowed = metric_names()
    unknown = [name for name in objectives if name not in allowed]
    if unknown:
        hint = did_you_mean(unknown[0], allowed)
        raise TftasError(f"objective {unknown[0]!r} does not exist{hint}")
    if not objectives or len(set(objectives)) != len(objectives):
        raise TftasError(
            f"objectives are {', '.join(map(str, objectives)) or 'none'}; allowed: each of"
            f" {', '.join(allowed)} once"
        )
    costs = cost_names()
    for name in objectives:
        if name in costs:
            get_cost(name).check_family(family)
    return objectives


def check_bounds(
    bounds: Mapping[str, Bound] | None,
    space: SearchSpace,
    *,
    img_size: int,
    num_classes: int,
) -> Bounds:
    """Check that bounds are valid and that the space can meet them.

    Args:
        bounds: Lowest and highest allowed value by the name of a cost or an indicator; None
            means no limit on that side.
        space: The search space.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.

    Returns:
        The bounds with at least one limit.

    Raises:
        TftasError: A name is unknown, a bound is not a pair of numbers or not positive for a
            cost, the lower limit is above the upper one, a cost is not available for the family,
            no architecture of the space can meet the bounds, or the image is too small.
    """
    # Raises an error if the image is too small, even without bounds.
    target = Target(img_size=img_size, num_classes=num_classes, in_chans=space.in_chans)
    space.smallest().costs(**target.input)
    if bounds is not None and not isinstance(bounds, Mapping):
        raise TftasError(
            f"bounds are {bounds!r}, expected pairs by name, such as {{'n_params': (None, 6e6)}}"
        )
    checked: Bounds = {}
    for name, bound in (bounds or {}).items():
        if name not in metric_names():
            raise TftasError(f"cannot bound {name!r}{did_you_mean(name, metric_names())}")
        low, high = _pair(name, bound)
        if low is None and high is None:
            continue
        is_cost = name in cost_names()
        if is_cost:
            get_cost(name).check_family(space.family)
        for value in (low, high):
            if is_cost and value is not None and not value > 0:
                raise TftasError(f"a bound on {name} is {value:g}, allowed is above 0")
        if low is not None and high is not None and low > high:
            raise TftasError(
                f"{name} from {short(low)} to {short(high)}: the lower bound is higher"
            )
        if is_cost and get_cost(name).grows:
            check_reachable(name, (low, high), space, get_cost(name).open(space, target, None))
        checked[name] = (low, high)
    return checked


def check_reachable(
    name: str, bound: Bound, space: SearchSpace, cost: Callable[[Architecture], float]
) -> None:
    """Check that a bound overlaps the range from the smallest to the largest architecture.

    Raises:
        TftasError: No architecture can meet the bound.
    """
    low, high = bound
    least, most = cost(space.smallest()), cost(space.largest())
    held = f"{space.name} holds {short(least)} to {short(most)}"
    if high is not None and high < least:
        raise TftasError(f"{name} of at most {short(high)} excludes every architecture: {held}")
    if low is not None and low > most:
        raise TftasError(f"{name} of at least {short(low)} excludes every architecture: {held}")


def violations(value: Callable[[str], Values], bounds: Bounds) -> dict[str, Values]:
    """Return the relative excess over each bound; zero or less is feasible.

    Args:
        value: Function that returns a metric of an architecture, or of many as an array.
        bounds: The bounds.
    """
    excess: dict[str, Values] = {}
    for name, (low, high) in bounds.items():
        current = value(name)
        if high is not None:
            excess[f"{name}_max"] = (
                current / high - 1 if high > 0 else _excess(current - high, high)
            )
        if low is not None:
            excess[f"{name}_min"] = 1 - current / low if low > 0 else _excess(low - current, low)
    return excess


def _excess(difference: Values, bound: float) -> Values:
    """Return a difference relative to a bound, which may be zero or negative for indicators."""
    return difference / (abs(bound) or 1.0)


def _pair(name: str, bound: Any) -> Bound:
    if not isinstance(bound, tuple | list) or len(bound) != 2:
        raise TftasError(
            f"the bound on {name} is {bound!r}, expected lowest and highest value, such as"
            f" (None, {bound if isinstance(bound, int | float) else 6e6!r})"
        )
    for value in bound:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and math.isfinite(value)):
            raise TftasError(f"a bound on {name} is {value!r}, allowed: finite numbers and None")
    return bound[0], bound[1]
