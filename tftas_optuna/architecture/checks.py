"""Checks of the numbers that architectures are made of."""

from __future__ import annotations

from typing import Any

from tftas_optuna._given import shown
from tftas_optuna.errors import TftasError

# Far larger than any Vision Transformer, but small enough that no file can ask for terabytes.
_MAX_RATIO = 64.0


def check_int(name: str, value: Any, low: int, high: int) -> None:
    """Check that a value is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise TftasError(
            f"{name} is {shown(value)}, allowed is a whole number {low} to {high}", key=(name,)
        )


def check_ratio(name: str, value: Any, width: int) -> None:
    """Check that a value is an MLP ratio that gives at least one hidden unit at this width."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TftasError(f"{name} holds {shown(value)}, allowed are numbers", key=(name,))
    if not (0 < value <= _MAX_RATIO and int(width * value) >= 1):
        raise TftasError(
            f"{name} holds {shown(value)}, allowed is above 0 to {_MAX_RATIO:g}", key=(name,)
        )


def as_tuple(name: str, value: Any, *, per: str) -> tuple[Any, ...]:
    """Check that a value is a list, and return it as a tuple."""
    if not isinstance(value, list | tuple):
        raise TftasError(
            f"{name} is {shown(value)}, expected a list with one value per {per}", key=(name,)
        )
    return tuple(value)
