"""What a trial is measured by: names, directions, and bounds on the costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tftas_optuna.costs import Target, cost_names, get_cost
from tftas_optuna.errors import TftasError
from tftas_optuna.plugins import Direction, get_indicator, indicator_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace

CostName = str
Bounds = dict[CostName, tuple[float | None, float | None]]

# Counted for every candidate, whatever is optimised.
COSTS: tuple[CostName, ...] = ("n_params", "macs")


def direction_of(name: str) -> Direction:
    """Tell what is better of a metric.

    Raises:
        TftasError: There is no such metric.
    """
    if name == "dss":
        return "maximize"
    return get_cost(name).direction if name in cost_names() else get_indicator(name).direction


def check_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    """Make sure that metrics exist and are told apart.

    Raises:
        TftasError: One does not exist or is given twice, or none is given.
    """
    metrics = tuple(metrics)
    known = ["dss", *indicator_names(), *cost_names()]
    unknown = [name for name in metrics if name not in known]
    if unknown or not metrics or len(set(metrics)) != len(metrics):
        raise TftasError(f"metrics are {list(metrics)}, allowed: each of {known} once")
    return metrics


def check_bounds(
    bounds: Mapping[CostName, tuple[float | None, float | None]] | None,
    space: SearchSpace,
    *,
    img_size: int,
    num_classes: int,
) -> Bounds:
    """Make sure that bounds are sound and that the space can meet them.

    Args:
        bounds: Lowest and highest allowed value by cost name; None leaves a side open.
        space: The space to be searched.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.

    Raises:
        TftasError: A name is unknown, a bound is not positive, the lower one is above the upper
            one, no architecture of the space can meet them, or the image is too small.
    """
    # The image has to fit, whatever is bounded.
    sizes: dict[str, Any] = {
        "img_size": img_size,
        "num_classes": num_classes,
        "in_chans": space.in_chans,
    }
    space.smallest().costs(**sizes)
    checked: Bounds = {}
    for name, (low, high) in (bounds or {}).items():
        if name not in cost_names():
            raise TftasError(f"cannot bound {name!r}; allowed: {', '.join(cost_names())}")
        if low is None and high is None:
            continue
        for value in (low, high):
            if value is not None and not value > 0:
                raise TftasError(f"a bound on {name} is {value:g}, allowed is above 0")
        if low is not None and high is not None and low > high:
            raise TftasError(
                f"{name} from {short(low)} to {short(high)}: the lower bound is higher"
            )
        if get_cost(name).grows:
            target = Target(**sizes)
            check_reachable(name, (low, high), space, get_cost(name).open(space, target, None))
        checked[name] = (low, high)
    return checked


def check_reachable(
    name: CostName,
    bound: tuple[float | None, float | None],
    space: SearchSpace,
    cost: Callable[[Architecture], float],
) -> None:
    """Make sure that a space, from its smallest to its largest architecture, meets a bound.

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


def violations(cost: Callable[[CostName], float], bounds: Bounds) -> dict[str, float]:
    """Give the relative excess over each bound, zero or less is feasible.

    Args:
        cost: Gives a cost of the architecture in question.
        bounds: The bounds.
    """
    excess = {}
    for name, (low, high) in bounds.items():
        value = cost(name)
        if high is not None:
            excess[f"{name}_max"] = value / high - 1
        if low is not None:
            excess[f"{name}_min"] = 1 - value / low
    return excess


def short(value: float) -> str:
    """Write a count as people do: 5.87M, 1.31G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.2f}{unit}"
    return f"{value:.4g}"
