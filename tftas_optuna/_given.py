"""What callers give: checked, or refused in one line."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tftas_optuna.errors import TftasError

# How a network of timm is named where other things may be meant, and one in a directory.
TIMM, LOCAL = "timm:", "local-dir:"


def shown(value: Any) -> str:
    """Return the repr of a value for a message, in one line and cut to 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return a value as a whole number.

    Raises:
        TftasError: It is none, or too small.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TftasError(f"{name} is {shown(value)}, allowed is a whole number, {least} or more")
    if number < least:
        raise TftasError(f"{name} is {number}, allowed is {least} or more")
    return number


def expect(name: str, value: Any, kind: Any, what: str) -> Any:
    """Return a value that has one of the expected types.

    Args:
        name: Name of the argument.
        value: The value.
        kind: The type, or several.
        what: What to give, for the message.

    Raises:
        TftasError: It has another type.
    """
    if not isinstance(value, kind):
        raise TftasError(f"{name} is {shown(value)}, expected {what}")
    return value


def check_callback(value: Any) -> None:
    """Check that a callback is a function, or None.

    Raises:
        TftasError: It is neither.
    """
    expect("callback", value, (Callable, type(None)), "a function")


def a_path(name: str, value: Any) -> Path:
    """Return a path, given as text or as a path.

    Raises:
        TftasError: It is none.
    """
    return Path(expect(name, value, (str, os.PathLike), "a path"))


def is_several(value: Any) -> bool:
    """Return whether a value is a collection; text and a mapping are one thing."""
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def listed(value: Any) -> list[Any]:
    """Return one thing or several as a list."""
    return list(value) if is_several(value) else [value]
