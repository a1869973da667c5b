"""From a row of a table to the architecture it describes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna.architecture import Architecture
from tftas_optuna.architecture.checks import shown
from tftas_optuna.correlate.files import is_blank, read_field
from tftas_optuna.errors import TftasError
from tftas_optuna.families import get_family

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tftas_optuna.correlate.files import Cells
    from tftas_optuna.spaces import SearchSpace

# Columns in which a JSON row may hold its architecture as one object.
_NESTED = ("architecture", "arch")
# Columns in which a row may name an exported file.
_FILES = ("file", "name")
# Names in AutoFormer's code, and in benchmarks that use it.
_ALIASES = {"hidden_dim": "embed_dim"}
_ENDINGS = ("", ".yaml", ".yml", ".json")


class IncompleteError(TftasError):
    """A row lacks something that its architecture needs."""


class OutsideError(TftasError):
    """A row describes an architecture of another family than the space's."""


def file_column(columns: dict[str, Any], space: SearchSpace | None) -> str | None:
    """Return the column that names exported files; None if the rows describe architectures."""
    if set(_NESTED) & columns.keys():
        return None
    if space is not None and required_fields(space) & _renamed(columns, space).keys():
        return None
    return next((name for name in _FILES if name in columns), None)


def find_file(name: str, folder: Path) -> Path:
    """Find an exported file by its path from a folder, with or without its ending.

    Raises:
        TftasError: There is none.
    """
    for ending in _ENDINGS:
        path = folder / (name + ending)
        if path.is_file():
            return path
    raise TftasError(f"there is no file {shown(name)} in {folder}, nor with .yaml or .json")


def required_fields(space: SearchSpace) -> set[str]:
    """Return the fields that a row has to give: without a default, or with several choices."""
    choices = space.choices()
    return {
        field.name
        for field in _fields(space)
        if field.default is dataclasses.MISSING or field.name in choices
    }


def missing_fields(columns: Iterable[str], space: SearchSpace) -> list[str]:
    """List the required fields that no column holds, by itself or within an object."""
    names = dict.fromkeys(columns)
    if set(_NESTED) & names.keys():
        return []
    return sorted(required_fields(space) - _renamed(names, space).keys())


def arch_columns(space: SearchSpace) -> set[str]:
    """Return the columns that describe an architecture of a space, under all their names."""
    return {"family", *space.supernet.to_dict(), *_ALIASES, *_NESTED}


def read_row(cells: Cells, space: SearchSpace) -> Architecture:
    """Read the architecture of a row; fields that it does not give are those of the supernet.

    Args:
        cells: The row: fields of the architecture as columns or in one object.
        space: The space that it is from.

    Raises:
        IncompleteError: A required field is missing; ``key`` names it.
        OutsideError: The architecture is of another family.
        TftasError: A field is unknown, or its value is not allowed.
    """
    usual = space.supernet.to_dict()
    nested = next((cells[name] for name in _NESTED if isinstance(cells.get(name), dict)), None)
    given = _renamed(nested or cells, space)
    if nested is None:
        given = {name: value for name, value in given.items() if name in usual}
    given = {name: value for name, value in given.items() if not is_blank(value)}
    family = given.pop("family", space.family)
    if family != space.family:
        raise OutsideError(f"its family is {shown(family)}, that of the space {space.family}")
    required = required_fields(space)
    missing = sorted(required - given.keys())
    if missing:
        raise IncompleteError(f"no {missing[0]}", key=(missing[0],))
    fields = {name: read_field(name, value, usual.get(name)) for name, value in given.items()}
    # Only fields: a depth that ``to_dict`` adds for readers must not come from the supernet.
    names = {field.name for field in _fields(space)}
    rest = {n: v for n, v in usual.items() if n in names and n not in fields}
    return get_family(space.family).architecture.from_fields({**rest, **fields})


def _fields(space: SearchSpace) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(get_family(space.family).architecture)  # type: ignore[arg-type]


def _renamed(cells: Cells, space: SearchSpace) -> Cells:
    """Rename columns with another program's names to the fields of the space."""
    fields = space.supernet.to_dict()
    names = {
        other: name for other, name in _ALIASES.items() if name in fields and other not in fields
    }
    return {names.get(name, name): value for name, value in cells.items()}
