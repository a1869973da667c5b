"""Checks of the numbers that architectures are made of."""

from __future__ import annotations

import math
from typing import Any

from tftas_optuna import _given
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


def shown(value: Any) -> str:
    """Return the repr of a value from a file for a message.

    Behind text that looks like a number stands how YAML wants the number.
    """
    text = _given.shown(value)
    number = _as_number(value) if isinstance(value, str) else None
    return text if number is None else f"{text}, which YAML 1.1 reads as text (write {number})"


def _as_number(text: str) -> str | None:
    """Return how a number is spelled so that YAML 1.1 reads it as one; None if it is no number."""
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    mantissa, _, exponent = text.strip().lower().partition("e")
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    if not exponent:
        return mantissa
    return f"{mantissa}e{exponent if exponent[0] in '+-' else f'+{exponent}'}"
