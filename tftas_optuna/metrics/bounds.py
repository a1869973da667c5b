"""Objectives and bounds, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tftas_optuna.errors import TftasError
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


def check_objectives(objectives: Iterable[str], family: str) -> tuple[str, ...]:
    """Check that objectives exist, are told apart, and that a family has them.

    Raises:
        TftasError: One does not exist or is given twice, none is given, or the family does not
            have one.
    """
    objectives = (objectives,) if isinstance(objectives, str) else tuple(objectives)
    known = metric_names()
    unknown = [name for name in objectives if name not in known]
    if unknown or not objectives or len(set(objectives)) != len(objectives):
        raise TftasError(
            f"objectives are {', '.join(map(str, objectives)) or 'none'}; allowed: each of"
            f" {', '.join(known)} once"
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
    """Check that bounds are sound and that the space can meet them.

    Args:
        bounds: Lowest and highest allowed value by the name of a cost or an indicator; None
            leaves a side open.
        space: The space to be searched.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.

    Returns:
        The bounds that bound something.

    Raises:
        TftasError: A name is unknown, a bound is no pair of numbers or not positive for a cost,
            the lower one is above the upper one, the family of the space does not have a cost, no
            architecture of the space can meet them, or the image is too small.
    """
    # The image has to fit, whatever is bounded.
    target = Target(img_size=img_size, num_classes=num_classes, in_chans=space.in_chans)
    space.smallest().costs(**target.input)
    if bounds is not None and not isinstance(bounds, Mapping):
        raise TftasError(
            f"bounds are {bounds!r}, expected pairs by name, such as {{'n_params': (None, 6e6)}}"
        )
    checked: Bounds = {}
    for name, bound in (bounds or {}).items():
        if name not in metric_names():
            raise TftasError(f"cannot bound {name!r}; allowed: {', '.join(metric_names())}")
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
    """Check that a space, from its smallest to its largest architecture, meets a bound.

    Raises:
        TftasError: It does not.
    """
    low, high = bound
    least, most = cost(space.smallest()), cost(space.largest())
    held = f"{space.name} holds {short(least)} to {short(most)}"
    if high is not None and high < least:
        raise TftasError(f"{name} of at most {short(high)} excludes every architecture: {held}")
    if low is not None and low > most:
        raise TftasError(f"{name} of at least {short(low)} excludes every architecture: {held}")


def violations(value: Callable[[str], Values], bounds: Bounds) -> dict[str, Values]:
    """Compute the relative excess over each bound; zero or less is feasible.

    Args:
        value: Returns a metric of the architecture in question, or of many as an array.
        bounds: The bounds.
    """
    excess: dict[str, Values] = {}
    for name, (low, high) in bounds.items():
        found = value(name)
        if high is not None:
            excess[f"{name}_max"] = found / high - 1 if high > 0 else _excess(found - high, high)
        if low is not None:
            excess[f"{name}_min"] = 1 - found / low if low > 0 else _excess(low - found, low)
    return excess


def _excess(difference: Values, bound: float) -> Values:
    """Relate a difference to a bound that may be zero or negative, as those of indicators."""
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
