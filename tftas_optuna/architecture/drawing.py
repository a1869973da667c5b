"""Draws an architecture as text: one line for each block or stage."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tftas_optuna.architecture._base import Architecture

_WIDEST = 12
_LINE = 72


def draw(architecture: Architecture) -> str:
    """Draw what differs from block to block, or from stage to stage, as bars.

    What is the same everywhere stands above.
    """
    fields = {field.name: getattr(architecture, field.name) for field in _fields(architecture)}
    lists = {name: value for name, value in fields.items() if isinstance(value, tuple) and value}
    words = ", ".join(f"{name} {value}" for name, value in fields.items() if name not in lists)
    same = textwrap.fill(words, _LINE)
    if not lists:
        return same
    unit = "stage" if "depth" in lists else "block"
    columns = [_column(name, values) for name, values in lists.items()]
    n_lines = max(map(len, columns))
    numbers = [unit, *(str(number) for number in range(1, n_lines))]
    width = max(map(len, numbers))
    rows = [
        "  ".join((number.rjust(width), *(_cell(column, i) for column in columns)))
        for i, number in enumerate(numbers)
    ]
    return "\n".join((same, *(row.rstrip() for row in rows)))


def _fields(architecture: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(architecture)


def _cell(column: list[str], place: int) -> str:
    return column[place] if place < len(column) else " " * len(column[0])


def _column(name: str, values: tuple[Any, ...]) -> list[str]:
    """Write the heading of a column, and a value with its bar in each line below it."""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    longest = max(map(len, texts))
    cells = [text.rjust(longest) for text in texts]
    if all(isinstance(value, int | float) and value > 0 for value in values):
        bars = ["█" * max(1, round(_WIDEST * value / max(values))) for value in values]
        cells = [f"{cell} {bar}" for cell, bar in zip(cells, bars, strict=True)]
    width = max(len(name), *map(len, cells))
    return [name.ljust(width), *(cell.ljust(width) for cell in cells)]
