"""Tables as files: the rows of CSV and JSON, and the values that their cells hold.

Numbers may be written as text, lists as ``[3, 4]`` or ``3 4``, and blanks in several ways.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tftas_optuna.architecture.checks import shown
from tftas_optuna.errors import InputFileError, TftasError

_MAX_BYTES = 200_000_000
_SUFFIXES = (".csv", ".json")
_BETWEEN = re.compile(r"[\s,;]+")
_WORDS = {"true": True, "false": False}

# Called with the name of a step, the number done and the total.
Tell = Callable[[str, int, int], None]
# A row: values by column; those of JSON may be lists and mappings.
Cells = dict[str, Any]


def find_table(path: Path) -> Path:
    """Return the table at a path: the file, or the only CSV file of a directory.

    Raises:
        UnavailableError: There is none, or more than one.
    """
    if not path.is_dir():
        return path
    tables = sorted(entry for entry in path.iterdir() if entry.suffix.lower() == ".csv")
    if len(tables) != 1:
        names = ", ".join(entry.name for entry in tables) or "none"
        raise InputFileError(
            f"{path}: a directory needs one CSV file of names and accuracies, it has {names}; name"
            " the file"
        )
    return tables[0]


def read_cells(path: Path) -> list[Cells]:
    """Read the rows of a CSV file with a header, or of a JSON list of objects.

    Raises:
        UnavailableError: The file is missing, empty, no text, or neither CSV nor JSON; names the
            row or the line, where it is one.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise InputFileError(
            f"{path}: tables are {' and '.join(_SUFFIXES)} files, or directories with one CSV file"
        )
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputFileError(f"{path}: larger than {_MAX_BYTES} bytes, not read")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path}: not a text file") from error
    rows = _read_csv(text, path) if path.suffix.lower() == ".csv" else _read_json(text, path)
    if not rows:
        raise InputFileError(f"{path}: no rows; write one for each architecture")
    return rows


def is_blank(value: Any) -> bool:
    """Return whether a cell is blank, which other programs write as ``nan``."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan"))


def read_number(name: str, value: Any) -> float:
    """Read a finite number.

    Raises:
        TftasError: The cell does not hold one.
    """
    number = _parsed(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TftasError(f"{name} is {shown(value)}, expected a number")
    if not math.isfinite(number):
        raise TftasError(f"{name} is {shown(value)}, expected a finite number")
    return float(number)


def read_field(name: str, value: Any, like: Any) -> Any:
    """Read a field of an architecture; the architecture checks its value later.

    Args:
        name: The field.
        value: The cell.
        like: The same field of another architecture, which shows whether it is a list or text.

    Raises:
        TftasError: It should be a list of numbers, and is not.
    """
    if isinstance(like, str):
        return value.strip() if isinstance(value, str) else value
    if not isinstance(value, str):
        return [_parsed(entry) for entry in value] if isinstance(value, list) else _parsed(value)
    if not isinstance(like, list):
        return _parsed(value)
    inside = value.strip().strip("[]()").strip(" ,")
    numbers = [_parsed(entry) for entry in _BETWEEN.split(inside)] if inside else []
    if any(isinstance(number, str | bool) for number in numbers):
        raise TftasError(f"{name} is {shown(value)}, expected numbers such as [3, 4] or 3 4")
    return numbers


def _read_csv(text: str, path: Path) -> list[Cells]:
    lines = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        rows = [cells for cells in lines if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputFileError(f"{path}, line {lines.line_num}: no CSV ({error})") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputFileError(f"{path}: two columns are called {shown(twice[0])}; rename one")
    for number, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            raise InputFileError(
                f"{path}, row {number}: {len(cells)} cells under {len(header)} column names; put"
                ' lists into quotes, "[3, 4]", or write 3 4'
            )
    return [dict(zip(header, cells, strict=True)) for cells in rows]


def _read_json(text: str, path: Path) -> list[Cells]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise InputFileError(f"{path}{where}: no JSON ({what})") from error
    if not isinstance(rows, list):
        raise InputFileError(f"{path}: holds {shown(rows)}, expected a list of objects")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputFileError(f"{path}, row {number}: is {shown(row)}, expected an object")
    return rows


def _parsed(value: Any) -> Any:
    """Return the value of a text, whole numbers as ``int``: spreadsheets write 3 as 3.0."""
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        try:
            value = float(text)
        except ValueError:
            return text
        # Python reads 1_000 as a number; tables do not mean one.
        if "_" in text:
            return text
    return int(value) if isinstance(value, float) and value.is_integer() else value
