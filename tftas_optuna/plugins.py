"""Indicators of your own: by a call, or by an entry point of an installed package."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tftas_optuna.errors import TftasError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

Direction = Literal["maximize", "minimize"]

INDICATORS_GROUP = "tftas_optuna.indicators"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Indicator(NamedTuple):
    """An indicator as a function of an untrained network.

    Attributes:
        score: ``score(model, images) -> float``. The network is in eval mode and has the
            weights of the study's supernet, with their signs; the images are ones, shape (1, 3,
            img_size, img_size), on its device. It must give the same value every time.
        direction: What is better.
    """

    score: Callable[[Any, Any], float]
    direction: Direction = "maximize"


def register_indicator(
    name: str, score: Callable[[Any, Any], float], *, direction: Direction = "maximize"
) -> None:
    """Give an indicator of your own a name that objectives and scorers know.

    An installed package does the same without any call by an entry point in the group
    ``tftas_optuna.indicators``, whose name is the indicator's and whose object is such a
    function or an :class:`Indicator`. Where a search scores in several processes, each has to
    know the indicator: register it at the top of the script, or install it.

    Args:
        name: Lower-case letters, digits and underscores.
        score: See :class:`Indicator`.
        direction: What is better.

    Raises:
        TftasError: The name is not allowed or taken, or the direction does not exist.

    Example:
        >>> import torch
        >>> from tftas_optuna import register_indicator
        >>> register_indicator("spread", lambda model, images: float(model(images).std()))
    """
    from tftas_optuna.costs import builtin_cost_names

    check_name(name)
    if direction not in ("minimize", "maximize"):
        raise TftasError(f"direction is {direction!r}, allowed: minimize, maximize")
    if name in builtin_cost_names():
        raise TftasError(f"{name!r} exists already; give another name")
    _REGISTERED[name] = Indicator(score, direction)


def get_indicator(name: str) -> Indicator:
    """Give an indicator of your own by its name.

    Raises:
        TftasError: There is none of that name.
        UnavailableError: It belongs to an installed package that cannot be loaded.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    found = load_entry_point(INDICATORS_GROUP, name)
    if found is None:
        known = ", ".join(["dss", *indicator_names()])
        raise TftasError(f"indicator {name!r} does not exist; known: {known}")
    if isinstance(found, Indicator):
        return found
    if not callable(found):
        raise UnavailableError(f"indicator {name!r}: its entry point is no function")
    return Indicator(found)


def indicator_names() -> list[str]:
    """Names of the indicators that were registered or installed; DSS is not among them."""
    return list(dict.fromkeys([*_REGISTERED, *entry_point_names(INDICATORS_GROUP)]))


_REGISTERED: dict[str, Indicator] = {}


@lru_cache(maxsize=8)
def entry_point_names(group: str) -> tuple[str, ...]:
    """Names that installed packages give in a group."""
    return tuple(sorted({entry.name for entry in metadata.entry_points(group=group)}))


def load_entry_point(group: str, name: str) -> Any:
    """Load what an installed package gives under a name; None where none does.

    Raises:
        UnavailableError: Loading it fails.
    """
    for entry in metadata.entry_points(group=group, name=name):
        check_name(name)
        try:
            return entry.load()
        except Exception as error:
            raise UnavailableError(
                f"{name!r} cannot be loaded from {entry.value} of an installed package:"
                f" {type(error).__name__}: {error}"
            ) from error
    return None


def check_name(name: str) -> None:
    """Make sure that a name may be given to a cost or an indicator.

    Raises:
        TftasError: It has other characters than lower-case letters, digits and underscores.
    """
    if name == "dss" or name.startswith("dss_"):
        raise TftasError(f"{name!r} is kept for DSS; give another name")
    if not _NAME.fullmatch(name):
        raise TftasError(
            f"{name!r} cannot be a name; up to 64 lower-case letters, digits and underscores are"
            " allowed, beginning with a letter"
        )
