"""Values as tables write them: numbers, lists as ``[3, 4]`` or ``3 4``, and blanks."""

from __future__ import annotations

import math
import re
from typing import Any

from tftas_optuna.architecture.checks import shown
from tftas_optuna.errors import TftasError

_BETWEEN = re.compile(r"[\s,;]+")
_WORDS = {"true": True, "false": False}


def is_blank(value: Any) -> bool:
    """Tell whether a cell holds nothing; ``nan`` is what other programs write for that."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan"))


def read_number(name: str, value: Any) -> float:
    """Read a finite number.

    Raises:
        TftasError: It is none.
    """
    number = _number(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TftasError(f"{name} is {shown(value)}, expected a number")
    if not math.isfinite(number):
        raise TftasError(f"{name} is {shown(value)}, expected a finite number")
    return float(number)


def read_field(name: str, value: Any, like: Any) -> Any:
    """Read a field of an architecture; what has no meaning stays, for the architecture to refuse.

    Args:
        name: The field.
        value: The cell.
        like: The same field of another architecture, which tells whether it is a list or text.

    Raises:
        TftasError: It should be a list of numbers, and is not.
    """
    if isinstance(like, str):
        return value.strip() if isinstance(value, str) else value
    if not isinstance(value, str):
        return [_number(entry) for entry in value] if isinstance(value, list) else _number(value)
    if not isinstance(like, list):
        return _number(value)
    inside = value.strip().strip("[]()").strip(" ,")
    numbers = [_number(entry) for entry in _BETWEEN.split(inside)] if inside else []
    if any(isinstance(number, str | bool) for number in numbers):
        raise TftasError(f"{name} is {shown(value)}, expected numbers such as [3, 4] or 3 4")
    return numbers


def _number(value: Any) -> Any:
    """Return what a text stands for, whole numbers as such: spreadsheets write 3 as 3.0."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        try:
            value = float(text)
        except ValueError:
            return text
        # Underscores are Python's, not those of tables.
        if "_" in text:
            return text
    return int(value) if isinstance(value, float) and value.is_integer() else value
