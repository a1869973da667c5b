"""Values from outside, checked and written for messages."""

from __future__ import annotations

from typing import Any

from tftas_optuna.errors import TftasError

# Far above any Vision Transformer, low enough that a hostile file cannot ask for terabytes.
_MAX_RATIO = 64.0


def check_int(name: str, value: Any, low: int, high: int) -> None:
    """Check that a value is a whole number in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise TftasError(
            f"{name} is {shown(value)}, allowed is a whole number {low} to {high}", key=(name,)
        )


def check_ratio(name: str, value: Any, width: int) -> None:
    """Check that a value is a ratio that gives an MLP of this width a hidden unit."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TftasError(f"{name} holds {shown(value)}, allowed are numbers", key=(name,))
    if not (0 < value <= _MAX_RATIO and int(width * value) >= 1):
        raise TftasError(
            f"{name} holds {shown(value)}, allowed is above 0 to {_MAX_RATIO:g}", key=(name,)
        )


def as_tuple(name: str, value: Any, *, per: str) -> tuple[Any, ...]:
    """Return a list as a tuple."""
    if not isinstance(value, list | tuple):
        raise TftasError(
            f"{name} is {shown(value)}, expected a list with one value per {per}", key=(name,)
        )
    return tuple(value)


def shown(value: Any) -> str:
    """Write a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
