"""The one registry of everything that can be an objective or a bound.

Each public file of the folders ``costs`` and ``indicators/measures`` is a built-in metric: see
:mod:`tftas_optuna.menu`, which enters them. Others are registered by a call or a decorator, or
brought by an installed package as entry points in the groups ``tftas_optuna.costs`` and
``tftas_optuna.indicators``. Nothing is loaded before it is used.
"""

from __future__ import annotations

import dataclasses
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from tftas_optuna._registry import Registry
from tftas_optuna.errors import TftasError
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
    """Register a cost of the user's, so that objectives and bounds know its name.

    An installed package does the same without any call by an entry point in the group
    ``tftas_optuna.costs``, whose name is the cost's and whose object is such a function or a
    :class:`tftas_optuna.metrics.Cost`. Where a search works in several processes, each has to
    know the cost: register it at the top of the script, or install it.

    Args:
        name: Up to 64 lower-case letters, digits and underscores.
        count: ``count(arch, *, img_size, num_classes, in_chans) -> float``, a finite number, the
            same for the same architecture; or a :class:`tftas_optuna.metrics.Cost`. Left out, the
            result is a decorator.
        direction: What is better.
        unit: Unit of its values, empty for counts.
        closed_form: Whether ``count`` takes microseconds. Samplers that screen then ask it for
            thousands of candidates that are never tried; otherwise they predict it.
        replace: Whether to take the place of a metric of the same name.

    Returns:
        ``count``, or a decorator that returns what it decorates.

    Raises:
        TftasError: The name is not allowed or taken, or the direction does not exist.

    Example:
        >>> from tftas_optuna import register_cost
        >>> @register_cost("n_heads")
        ... def n_heads(arch, **sizes):
        ...     return sum(arch.num_heads)
    """
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
    check_name(name)
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
    """Register an indicator of the user's, so that objectives, bounds and scorers know its name.

    An installed package does the same without any call by an entry point in the group
    ``tftas_optuna.indicators``, whose name is the indicator's and whose object is such a
    function or a :class:`tftas_optuna.metrics.Indicator`. Where a search scores in several
    processes, each has to know the indicator: register it at the top of the script, or install it.

    Args:
        name: Up to 64 lower-case letters, digits and underscores.
        score: A function of an untrained network and images, see
            :class:`tftas_optuna.metrics.FunctionIndicator`; or an indicator object, whose
            direction and unit then count. Left out, the result is a decorator.
        direction: What is better.
        unit: Unit of its values, mostly empty.
        replace: Whether to take the place of a metric of the same name.

    Returns:
        ``score``, or a decorator that returns what it decorates.

    Raises:
        TftasError: The name is not allowed or taken, or the direction does not exist.

    Example:
        >>> from tftas_optuna import register_indicator
        >>> @register_indicator("spread")
        ... def spread(model, images):
        ...     return float(model(images).std())
    """
    if score is None:
        return partial(
            _decorate, register_indicator, name, direction=direction, unit=unit, replace=replace
        )
    check_name(name)
    if not replace:
        METRICS.check_free(name)
    METRICS.add(INDICATORS_GROUP, name, _as_indicator(name, score, direction, unit))
    return score


def get_metric(name: str) -> Cost | Indicator:
    """Look a metric up.

    Raises:
        TftasError: There is none of that name.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name not in METRICS:
        raise TftasError(f"metric {name!r} does not exist; known: {', '.join(metric_names())}")
    return cast("Cost | Indicator", METRICS[name])


def get_cost(name: str) -> Cost:
    """Look a cost up.

    Raises:
        TftasError: There is none of that name.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name not in cost_names():
        raise TftasError(f"cost {name!r} does not exist; known: {', '.join(cost_names())}")
    return cast("Cost", get_metric(name))


def get_indicator(name: str) -> Indicator:
    """Look an indicator up.

    Raises:
        TftasError: There is none of that name.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name not in indicator_names():
        known = ", ".join(indicator_names())
        raise TftasError(f"indicator {name!r} does not exist; known: {known}")
    return cast("Indicator", get_metric(name))


def metric_names() -> list[str]:
    """List everything that can be an objective: indicators, then costs."""
    return [*indicator_names(), *cost_names()]


def cost_names() -> list[str]:
    """List all costs: built-in ones first, then registered and installed ones."""
    return METRICS.names(COSTS_GROUP)


def indicator_names() -> list[str]:
    """List all indicators: built-in ones first, then registered and installed ones."""
    return METRICS.names(INDICATORS_GROUP)


def read_cost(name: str, brought: object) -> Cost:
    """Make a cost of what an installed package brings.

    Raises:
        TftasError: The name is not allowed, or this is no cost.
    """
    check_name(name)
    return _as_cost(name, brought, "minimize", "", closed_form=False)


def read_indicator(name: str, brought: object) -> Indicator:
    """Make an indicator of what an installed package brings.

    Raises:
        TftasError: The name is not allowed, or this is no indicator.
    """
    check_name(name)
    return _as_indicator(name, brought, "maximize", "")


def _decorate(register: Callable[..., Any], name: str, function: Function, **how: Any) -> Function:
    register(name, function, **how)
    return function


def _as_cost(name: str, found: Any, direction: Direction, unit: str, closed_form: bool) -> Cost:
    if isinstance(found, Cost):
        return dataclasses.replace(found, name=name)
    if isinstance(found, Metric) or not callable(found):
        raise TftasError(f"cost {name!r} is {found!r}, expected a function or a Cost")

    try:
        inspect.signature(found).bind(None, **Target().input)
    except TypeError as error:
        raise TftasError(
            f"cost {name!r} cannot be called as count(arch, *, img_size, num_classes, in_chans):"
            f" {error}"
        ) from error
    except ValueError:
        pass  # some built-in functions tell no signature

    def value(arch: Architecture, target: Target) -> float:
        return float(found(arch, **target.input))

    return counted(name, value, direction=direction, unit=unit, closed_form=closed_form)


def _as_indicator(name: str, found: Any, direction: Direction, unit: str) -> Indicator:
    if isinstance(found, Indicator):
        return dataclasses.replace(found, name=name)
    if isinstance(found, Metric) or not callable(found):
        raise TftasError(f"indicator {name!r} is {found!r}, expected a function or an Indicator")
    return FunctionIndicator(name, direction, unit, score=found)
