"""The search spaces: presets, which are data files of this package, and the user's files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from tftas_optuna.architecture import Architecture, read_architecture, read_yaml
from tftas_optuna.architecture.checks import shown
from tftas_optuna.architecture.parts import FAMILIES, family_names
from tftas_optuna.errors import InputFileError, TftasError, did_you_mean
from tftas_optuna.spaces._base import SearchSpace
from tftas_optuna.spaces._lines import line_of, read_with_lines
from tftas_optuna.spaces.autoformer import AutoFormerSpace
from tftas_optuna.spaces.pit import PiTSpace

__all__ = [
    "AutoFormerSpace",
    "PiTSpace",
    "SearchSpace",
    "find_architecture",
    "get_space",
    "published_architectures",
    "space_from_dict",
    "space_names",
]


def space_names() -> tuple[str, ...]:
    """Return the names of the presets, smallest space first."""
    return tuple(_presets())


def get_space(name_or_path: str | Path) -> SearchSpace:
    """Return a preset by name, or read a space from a YAML file.

    Raises:
        TftasError: There is no such preset.
        UnavailableError: The file cannot be read or describes no space; the message names the
            line.
    """
    presets = _presets()
    if str(name_or_path) in presets:
        return space_from_dict(presets[str(name_or_path)])
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        hint = did_you_mean(name_or_path, presets)
        raise TftasError(f"unknown space {str(name_or_path)!r}{hint}, or the path of a YAML file")
    data, lines = read_with_lines(path)
    try:
        return space_from_dict(data)
    except TftasError as error:
        line = line_of(error.key, lines)
        where = f", line {line}" if line is not None else ""
        raise InputFileError(f"{path}{where}: {error}", key=error.key) from error


def space_from_dict(data: Any) -> SearchSpace:
    """Read a space of any family from plain data.

    Raises:
        TftasError: The data describes no space; the message says what is wrong.
    """
    if not isinstance(data, dict):
        raise TftasError(f"a space is a mapping with family, name and choices, not {shown(data)}")
    family, name = data.get("family"), data.get("name")
    if not isinstance(family, str) or family not in FAMILIES:
        problem = (
            f"unknown family {shown(family)}" if "family" in data else "a space needs a family"
        )
        raise TftasError(f"{problem}{did_you_mean(family, family_names())}", key=("family",))
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        problem = f"name is {shown(name)}" if "name" in data else "a space needs a name"
        raise TftasError(f"{problem}; expected text of 1 to 100 characters", key=("name",))
    return FAMILIES[family].space.from_dict(data)


def published_architectures() -> dict[str, Architecture]:
    """Return architectures published by other authors, by name, such as ``"tf-tas-tiny"``."""
    return {
        name: Architecture.from_dict(entry["architecture"])
        for name, entry in _data("published.yaml").items()
    }


def find_architecture(name_or_path: str | Path) -> Architecture:
    """Return a published architecture by name, or read one from an exported file.

    Raises:
        TftasError: There is no such name.
        UnavailableError: The file cannot be read or contains no architecture.
    """
    published = published_architectures()
    if str(name_or_path) in published:
        return published[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml", ".json") and not path.is_file():
        hint = did_you_mean(name_or_path, published)
        raise TftasError(
            f"unknown architecture {str(name_or_path)!r}{hint}, or the path of an exported file"
        )
    return read_architecture(path)[0]


def _presets() -> dict[str, dict[str, Any]]:
    return {name: {"name": name, **fields} for name, fields in _data("presets.yaml").items()}


def _data(name: str) -> dict[str, Any]:
    with resources.as_file(resources.files("tftas_optuna.spaces") / "data" / name) as path:
        data: dict[str, Any] = read_yaml(path)
    return data
