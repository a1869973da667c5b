"""Draws an architecture as text, with one line per block or stage."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tftas_optuna.architecture._base import Architecture

_BAR_WIDTH = 12
_LINE_WIDTH = 72


def draw(architecture: Architecture) -> str:
    """Return a drawing of the fields that differ between blocks or stages, as bars.

    The fields that are the same everywhere are listed above.
    """
    told = architecture.to_dict()
    names = [field.name for field in _fields(architecture) if field.name in told]
    fields = {name: getattr(architecture, name) for name in names}
    lists = {name: value for name, value in fields.items() if isinstance(value, tuple) and value}
    # A name and its value stay on one line.
    constants = [f"{name}\N{NO-BREAK SPACE}{fields[name]}" for name in names if name not in lists]
    header = textwrap.fill(", ".join(constants), _LINE_WIDTH).replace("\N{NO-BREAK SPACE}", " ")
    if not lists:
        return header
    unit = "stage" if "depth" in lists else "block"
    columns = [_column(name, values) for name, values in lists.items()]
    n_lines = max(map(len, columns))
    numbers = [unit, *(str(number) for number in range(1, n_lines))]
    width = max(map(len, numbers))
    rows = [
        "  ".join((number.rjust(width), *(_cell(column, i) for column in columns)))
        for i, number in enumerate(numbers)
    ]
    return "\n".join((header, *(row.rstrip() for row in rows)))


def _fields(architecture: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(architecture)


def _cell(column: list[str], row: int) -> str:
    return column[row] if row < len(column) else " " * len(column[0])


def _column(name: str, values: tuple[Any, ...]) -> list[str]:
    """Return the lines of a column: its heading, then one value with its bar per line."""
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    longest = max(map(len, texts))
    cells = [text.rjust(longest) for text in texts]
    if all(isinstance(value, int | float) and value > 0 for value in values):
        bars = ["█" * max(1, round(_BAR_WIDTH * value / max(values))) for value in values]
        cells = [f"{cell} {bar}" for cell, bar in zip(cells, bars, strict=True)]
    width = max(len(name), *map(len, cells))
    return [name.ljust(width), *(cell.ljust(width) for cell in cells)]
