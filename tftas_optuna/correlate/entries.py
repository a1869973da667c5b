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

# Where a JSON row may keep its architecture in one piece.
_NESTED = ("architecture", "arch")
# Where a row may name an exported file.
_FILES = ("file", "name")
# AutoFormer's code and the benchmarks on it call the width of the tokens so.
_ALIASES = {"hidden_dim": "embed_dim"}
_ENDINGS = ("", ".yaml", ".yml", ".json")


class IncompleteError(TftasError):
    """A row lacks something that its architecture needs."""


class OutsideError(TftasError):
    """A row describes an architecture of another family than the space's."""


def file_column(columns: dict[str, Any], space: SearchSpace | None) -> str | None:
    """Return the column that names exported files, unless rows say the architecture themselves."""
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
    """Return the fields that have no usual value in a space: none at all, or one of several."""
    choices = space.choices()
    return {
        field.name
        for field in _fields(space)
        if field.default is dataclasses.MISSING or field.name in choices
    }


def missing_fields(columns: Iterable[str], space: SearchSpace) -> list[str]:
    """List the required fields that no column can have, plain or in one object."""
    found = dict.fromkeys(columns)
    if set(_NESTED) & found.keys():
        return []
    return sorted(required_fields(space) - _renamed(found, space).keys())


def arch_columns(space: SearchSpace) -> set[str]:
    """Return the columns that describe an architecture of a space, however they are called."""
    return {"family", *space.supernet.to_dict(), *_ALIASES, *_NESTED}


def read_row(cells: Cells, space: SearchSpace) -> Architecture:
    """Read the architecture of a row; what it does not say is as in the supernet of the space.

    Args:
        cells: The row: fields of the architecture as columns or in one object.
        space: The space that it is from.

    Raises:
        IncompleteError: A field that has no usual value is missing; it is named by ``key``.
        OutsideError: It is of another family.
        TftasError: A field is unknown or has no meaning.
    """
    usual = space.supernet.to_dict()
    nested = next((cells[name] for name in _NESTED if isinstance(cells.get(name), dict)), None)
    told = _renamed(nested or cells, space)
    if nested is None:
        told = {name: value for name, value in told.items() if name in usual}
    told = {name: value for name, value in told.items() if not is_blank(value)}
    family = told.pop("family", space.family)
    if family != space.family:
        raise OutsideError(f"its family is {shown(family)}, that of the space {space.family}")
    required = required_fields(space)
    missing = sorted(required - told.keys())
    if missing:
        raise IncompleteError(f"no {missing[0]}", key=(missing[0],))
    fields = {name: read_field(name, value, usual.get(name)) for name, value in told.items()}
    # The depth that some write for the reader is not that of the supernet.
    known = {field.name for field in _fields(space)}
    rest = {n: v for n, v in usual.items() if n in known and n not in fields}
    return get_family(space.family).architecture.from_fields({**rest, **fields})


def _fields(space: SearchSpace) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(get_family(space.family).architecture)  # type: ignore[arg-type]


def _renamed(cells: Cells, space: SearchSpace) -> Cells:
    """Call what others name otherwise as architectures of a space do."""
    fields = space.supernet.to_dict()
    names = {
        other: name for other, name in _ALIASES.items() if name in fields and other not in fields
    }
    return {names.get(name, name): value for name, value in cells.items()}
