"""The one registry of everything that can be an objective or a bound.

Built-in metrics are found by their files: each public module of ``tftas_optuna.costs`` and of
``tftas_optuna.indicators.measures`` is the metric of its name, and assigns it to ``METRIC``.
Others are registered by a call or a decorator, or brought by an installed package as entry points
in the groups ``tftas_optuna.costs`` and ``tftas_optuna.indicators``. Nothing is loaded before it
is used.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import logging
from functools import lru_cache, partial
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.metrics.base import Direction, Metric, check_name
from tftas_optuna.metrics.cost import Cost, Target, counted
from tftas_optuna.metrics.function import FunctionIndicator
from tftas_optuna.metrics.indicator import Indicator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.architecture import Architecture

Kind = Literal["cost", "indicator"]
Function = TypeVar("Function", bound="Callable[..., Any]")

COSTS_GROUP = "tftas_optuna.costs"
INDICATORS_GROUP = "tftas_optuna.indicators"

_LOG = logging.getLogger("tftas_optuna")
_ROOT = "tftas_optuna"
_HOMES: dict[Kind, tuple[str, ...]] = {"cost": ("costs",), "indicator": ("indicators", "measures")}
_GROUPS: dict[Kind, str] = {"cost": COSTS_GROUP, "indicator": INDICATORS_GROUP}
_REGISTERED: dict[str, Cost | Indicator] = {}


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
    _check_free(name, replace)
    _REGISTERED[name] = _as_cost(name, count, direction, unit, closed_form)
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
    _check_free(name, replace)
    _REGISTERED[name] = _as_indicator(name, score, direction, unit)
    return score


def get_metric(name: str) -> Cost | Indicator:
    """Look a metric up.

    Raises:
        TftasError: There is none of that name.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    kinds: tuple[Kind, ...] = ("cost", "indicator")
    for kind in kinds:
        if name in _built_in(kind):
            return _load_built_in(kind, name)
    for kind in kinds:
        if name in _installed(kind):
            return _load_installed(kind, name)
    raise TftasError(f"metric {name!r} does not exist; known: {', '.join(metric_names())}")


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
    return _names("cost", Cost)


def indicator_names() -> list[str]:
    """List all indicators: built-in ones first, then registered and installed ones."""
    return _names("indicator", Indicator)


def _names(kind: Kind, of: type[Metric]) -> list[str]:
    registered = {name: isinstance(metric, of) for name, metric in _REGISTERED.items()}
    names = dict.fromkeys([*_built_in(kind), *registered, *_installed(kind)])
    return [name for name in names if registered.get(name, True)]


def _decorate(register: Callable[..., Any], name: str, function: Function, **how: Any) -> Function:
    register(name, function, **how)
    return function


def _check_free(name: str, replace: bool) -> None:
    check_name(name)
    if name in metric_names() and not replace:
        raise TftasError(
            f"metric {name!r} exists already; give another name, or replace=True to take its place"
        )


@lru_cache(maxsize=2)
def _built_in(kind: Kind) -> tuple[str, ...]:
    # Found from the root: importing the folder itself would load PyTorch.
    files = resources.files(_ROOT).joinpath(*_HOMES[kind]).iterdir()
    names = [file.name.removesuffix(".py") for file in files if file.name.endswith(".py")]
    return tuple(sorted(name for name in names if not name.startswith("_")))


def _load_built_in(kind: Kind, name: str) -> Cost | Indicator:
    module = ".".join((_ROOT, *_HOMES[kind], name))
    metric: Cost | Indicator = importlib.import_module(module).METRIC
    assert metric.name == name, f"{module} holds the metric {metric.name}"
    return metric


@lru_cache(maxsize=2)
def _installed(kind: Kind) -> dict[str, metadata.EntryPoint]:
    entries = {entry.name: entry for entry in metadata.entry_points(group=_GROUPS[kind])}
    for name in [name for name in entries if name in _built_in(kind)]:
        entry = entries.pop(name)
        _LOG.warning("%s is not used: %s is built in", entry.value, name)
    return entries


@lru_cache(maxsize=256)
def _load_installed(kind: Kind, name: str) -> Cost | Indicator:
    entry = _installed(kind)[name]
    check_name(name)
    try:
        found = entry.load()
    except Exception as error:
        raise UnavailableError(
            f"{name!r} cannot be loaded from {entry.value} of an installed package:"
            f" {type(error).__name__}: {error}"
        ) from error
    try:
        if kind == "cost":
            return _as_cost(name, found, "minimize", "", closed_form=False)
        return _as_indicator(name, found, "maximize", "")
    except TftasError as error:
        raise UnavailableError(f"{entry.value} of an installed package: {error}") from error


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
