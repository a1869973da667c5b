"""What a trial is measured by: names, directions, and bounds on the costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tftas_optuna.architecture import Costs
    from tftas_optuna.spaces import SearchSpace

CostName = Literal["n_params", "macs"]
Direction = Literal["maximize", "minimize"]
Bounds = dict[CostName, tuple[float | None, float | None]]

COSTS: tuple[CostName, ...] = get_args(CostName)
DIRECTIONS: dict[str, Direction] = {"dss": "maximize", "n_params": "minimize", "macs": "minimize"}


def check_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    """Make sure that metrics exist and are told apart.

    Raises:
        TftasError: One does not exist or is given twice, or none is given.
    """
    metrics = tuple(metrics)
    unknown = [name for name in metrics if name not in DIRECTIONS]
    if unknown or not metrics or len(set(metrics)) != len(metrics):
        raise TftasError(f"metrics are {list(metrics)}, allowed: each of {list(DIRECTIONS)} once")
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
            one, or no architecture of the space can meet them.
    """
    checked: Bounds = {}
    sizes = {"img_size": img_size, "num_classes": num_classes, "in_chans": space.in_chans}
    smallest, largest = space.smallest().costs(**sizes), space.largest().costs(**sizes)
    for name, (low, high) in (bounds or {}).items():
        if name not in COSTS:
            raise TftasError(f"cannot bound {name!r}; allowed: {', '.join(COSTS)}")
        if low is None and high is None:
            continue
        for value in (low, high):
            if value is not None and not value > 0:
                raise TftasError(f"a bound on {name} is {value:g}, allowed is above 0")
        if low is not None and high is not None and low > high:
            raise TftasError(
                f"{name} from {short(low)} to {short(high)}: the lower bound is higher"
            )
        least, most = getattr(smallest, name), getattr(largest, name)
        held = f"{space.name} holds {short(least)} to {short(most)}"
        if high is not None and high < least:
            raise TftasError(
                f"{name} of at most {short(high)} excludes every architecture: {held}"
            )
        if low is not None and low > most:
            raise TftasError(
                f"{name} of at least {short(low)} excludes every architecture: {held}"
            )
        checked[name] = (low, high)
    return checked


def violations(costs: Costs, bounds: Bounds) -> dict[str, float]:
    """Give the relative excess over each bound; zero or less is feasible."""
    excess = {}
    for name, (low, high) in bounds.items():
        value = getattr(costs, name)
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
    return f"{value:g}"
