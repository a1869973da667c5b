"""The registry of costs and indicators.

:mod:`tftas_optuna.menu` enters the built-in metrics, which are the public files of the folders
``costs`` and ``indicators/measures``. Others are registered by a call or a decorator, or provided
by installed packages as entry points in the groups ``tftas_optuna.costs`` and
``tftas_optuna.indicators``. Metrics are loaded on first use.
"""

from __future__ import annotations

import dataclasses
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from tftas_optuna._registry import Registry
from tftas_optuna.errors import TftasError, did_you_mean
from tftas_optuna.metrics.base import Direction, Metric, check_name
from tftas_optuna.metrics.cost import Cost, Target, counted
from tftas_optuna.metrics.function import FunctionIndicator
from tftas_optuna.metrics.indicator import Indicator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.architecture import Architecture

Function = TypeVar("Function", bound="Callable[..., Any]")

COSTS_GROUP = "tftas_optuna.costs"
INDICATORS_GROUP = "tftas_optuna.indicators"

METRICS: Registry[Metric] = Registry("metric")


@overload
def register_cost(
    name: str,
    count: Cost | Function,
    *,
    direction: Direction = ...,
    unit: str = ...,
    closed_form: bool = ...,
    replace: bool = ...,
) -> Cost | Function: ...
@overload
def register_cost(
    name: str,
    *,
    direction: Direction = ...,
    unit: str = ...,
    closed_form: bool = ...,
    replace: bool = ...,
) -> Callable[[Function], Function]: ...
def register_cost(
    name: str,
    count: Any = None,
    *,
    direction: Direction = "minimize",
    unit: str = "",
    closed_form: bool = False,
    replace: bool = False,
) -> Any:
    """Register a user-defined cost for objectives and bounds.

    An installed package needs no call: it provides an entry point in the group
    ``tftas_optuna.costs`` with the name of the cost, and such a function or a
    :class:`tftas_optuna.metrics.Cost` as its object. If a search uses several processes, the cost
    must be registered in each: register it at the top of the script, or install it.

    Args:
        name: Up to 64 lower-case letters, digits and underscores.
        count: ``count(arch, *, img_size, num_classes, in_chans) -> float``, a finite number, the
            same for the same architecture; or a :class:`tftas_optuna.metrics.Cost`. Without it
            the function returns a decorator.
        direction: Direction of optimisation.
        unit: Unit of the values, empty for counts.
        closed_form: Whether ``count`` takes only microseconds. Samplers that screen then compute
            it for thousands of candidates that are never tried; otherwise they predict it.
        replace: Whether to replace a metric of the same name.

    Returns:
        ``count``, or a decorator that returns the function unchanged.

    Raises:
        TftasError: The name is not allowed or already exists, or the direction is invalid.

    Example:
        >>> from tftas_optuna import register_cost
        >>> @register_cost("n_heads")
        ... def n_heads(arch, **sizes):
        ...     return sum(arch.num_heads)
    """
    check_name(name)
    if count is None:
        return partial(
            _decorate,
            register_cost,
            name,
            direction=direction,
            unit=unit,
            closed_form=closed_form,
            replace=replace,
        )
    if not replace:
        METRICS.check_free(name)
    METRICS.add(COSTS_GROUP, name, _as_cost(name, count, direction, unit, closed_form))
    return count


@overload
def register_indicator(
    name: str,
    score: Indicator | Function,
    *,
    direction: Direction = ...,
    unit: str = ...,
    replace: bool = ...,
) -> Indicator | Function: ...
@overload
def register_indicator(
    name: str, *, direction: Direction = ..., unit: str = ..., replace: bool = ...
) -> Callable[[Function], Function]: ...
def register_indicator(
    name: str,
    score: Any = None,
    *,
    direction: Direction = "maximize",
    unit: str = "",
    replace: bool = False,
) -> Any:
    """Register a user-defined indicator for objectives, bounds and scorers.

    An installed package needs no call: it provides an entry point in the group
    ``tftas_optuna.indicators`` with the name of the indicator, and such a function or a
    :class:`tftas_optuna.metrics.Indicator` as its object. If a search uses several processes, the
    indicator must be registered in each: register it at the top of the script, or install it.

    Args:
        name: Up to 64 lower-case letters, digits and underscores.
        score: A function of an untrained network and images, see
            :class:`tftas_optuna.metrics.FunctionIndicator`; or an indicator object, which keeps
            its own direction and unit. Without it the function returns a decorator.
        direction: Direction of optimisation.
        unit: Unit of the values, usually empty.
        replace: Whether to replace a metric of the same name.

    Returns:
        ``score``, or a decorator that returns the function unchanged.

    Raises:
        TftasError: The name is not allowed or already exists, or the direction is invalid.

    Example:
        >>> from tftas_optuna import register_indicator
        >>> @register_indicator("spread")
        ... def spread(model, images):
        ...     return float(model(images).std())
    """
    check_name(name)
    if score is None:
        return partial(
            _decorate, register_indicator, name, direction=direction, unit=unit, replace=replace
        )
    if not replace:
        METRICS.check_free(name)
    METRICS.add(INDICATORS_GROUP, name, _as_indicator(name, score, direction, unit))
    return score


def get_metric(name: str) -> Cost | Indicator:
    """Return the metric of a name.

    Raises:
        TftasError: There is no such metric.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name not in METRICS:
        raise TftasError(f"metric {name!r} does not exist{did_you_mean(name, metric_names())}")
    return cast("Cost | Indicator", METRICS[name])


def get_cost(name: str) -> Cost:
    """Return the cost of a name.

    Raises:
        TftasError: There is no such cost.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name not in cost_names():
        raise TftasError(f"cost {name!r} does not exist{did_you_mean(name, cost_names())}")
    return cast("Cost", get_metric(name))


def get_indicator(name: str | Indicator) -> Indicator:
    """Return the indicator of a name; an indicator is returned as it is.

    Raises:
        TftasError: There is no such indicator.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if isinstance(name, Indicator):
        return name
    if name not in indicator_names():
        hint = did_you_mean(name, indicator_names())
        raise TftasError(f"indicator {name!r} does not exist{hint}")
    return cast("Indicator", get_metric(name))


def metric_names() -> list[str]:
    """Return the names of all metrics: indicators, then costs."""
    return [*indicator_names(), *cost_names()]


def cost_names() -> list[str]:
    """Return the names of all costs: built-in, then registered, then installed ones."""
    return METRICS.names(COSTS_GROUP)


def indicator_names() -> list[str]:
    """Return the names of all indicators: built-in, then registered, then installed ones."""
    return METRICS.names(INDICATORS_GROUP)


def read_cost(name: str, loaded: object) -> Cost:
    """Return the cost that an installed package provides.

    Args:
        name: Name of the entry point.
        loaded: Object of the entry point.

    Raises:
        TftasError: The name is not allowed, or the object is not a cost.
    """
    check_name(name)
    return _as_cost(name, loaded, "minimize", "", closed_form=False)


def read_indicator(name: str, loaded: object) -> Indicator:
    """Return the indicator that an installed package provides.

    Args:
        name: Name of the entry point.
        loaded: Object of the entry point.

    Raises:
        TftasError: The name is not allowed, or the object is not an indicator.
    """
    check_name(name)
    return _as_indicator(name, loaded, "maximize", "")


def _decorate(
    register: Callable[..., Any], name: str, function: Function, **options: Any
) -> Function:
    register(name, function, **options)
    return function


def _as_cost(name: str, count: Any, direction: Direction, unit: str, closed_form: bool) -> Cost:
    if isinstance(count, Cost):
        return dataclasses.replace(count, name=name)
    if isinstance(count, Metric) or not callable(count):
        raise TftasError(f"cost {name!r} is {count!r}, expected a function or a Cost")

    try:
        inspect.signature(count).bind(None, **Target().input)
    except TypeError as error:
        raise TftasError(
            f"cost {name!r} cannot be called as count(arch, *, img_size, num_classes, in_chans):"
            f" {error}"
        ) from error
    except ValueError:
        pass  # some built-in functions have no signature

    def value(arch: Architecture, target: Target) -> float:
        return float(count(arch, **target.input))

    return counted(name, value, direction=direction, unit=unit, closed_form=closed_form)


def _as_indicator(name: str, score: Any, direction: Direction, unit: str) -> Indicator:
    if isinstance(score, Indicator):
        return dataclasses.replace(score, name=name)
    if isinstance(score, Metric) or not callable(score):
        raise TftasError(f"indicator {name!r} is {score!r}, expected a function or an Indicator")
    return FunctionIndicator(name, direction, unit, score=score)
