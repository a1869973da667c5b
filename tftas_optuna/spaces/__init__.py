"""The search spaces: presets, which are data files of this package, and the user's files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from tftas_optuna._given import TIMM
from tftas_optuna.architecture import Architecture, read_architecture, read_yaml
from tftas_optuna.architecture.checks import shown
from tftas_optuna.architecture.parts import FAMILIES, family_names
from tftas_optuna.errors import InputFileError, TftasError, did_you_mean
from tftas_optuna.spaces._around import space_around
from tftas_optuna.spaces._base import SearchSpace
from tftas_optuna.spaces._checks import check_name
from tftas_optuna.spaces._lines import line_of, read_with_lines
from tftas_optuna.spaces.autoformer import AutoFormerSpace
from tftas_optuna.spaces.pit import PiTSpace

__all__ = [
    "AutoFormerSpace",
    "PiTSpace",
    "SearchSpace",
    "SpaceLike",
    "find_architecture",
    "get_space",
    "published_architectures",
    "space_from_dict",
    "space_names",
]

SpaceLike: TypeAlias = SearchSpace | Mapping[str, Any] | str | os.PathLike[str]


def space_names() -> tuple[str, ...]:
    """Return the names of the presets, smallest space first."""
    return tuple(_presets())


def get_space(space: SpaceLike) -> SearchSpace:
    """Return a search space; whatever asks for one takes the same.

    Args:
        space: The name of a preset, the path of a YAML file, the mapping that such a file holds,
            a space, which is returned as it is, or ``"timm:NAME"``: a space around a plain Vision
            Transformer of timm, of which it is the largest (``vit_*``, ``deit_*`` and ``pit_*``,
            also ``timm:local-dir:PATH``). Widths and depths are half of the network's or more,
            MLP ratios 1 or more; images and classes are the network's.

    In a file of another kind, such as a calibration, the space is what its key ``space`` holds.

    Raises:
        TftasError: There is no such preset, or the mapping describes no space.
        UnavailableError: The file cannot be read or describes no space; the message names the
            line.
    """
    if isinstance(space, SearchSpace):
        return space
    if isinstance(space, Mapping):
        return space_from_dict(dict(space))
    if not isinstance(space, str | os.PathLike):
        raise TftasError(
            f"{shown(space)} is no space; give the name of one ({', '.join(space_names())}), the"
            " path of a YAML file, or a SearchSpace"
        )
    name_or_path: str | os.PathLike[str] = space
    presets = _presets()
    if str(name_or_path) in presets:
        return space_from_dict(presets[str(name_or_path)])
    if str(name_or_path).startswith(TIMM):
        return space_around(str(name_or_path).removeprefix(TIMM))
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        hint = did_you_mean(name_or_path, presets)
        raise TftasError(
            f"unknown space {str(name_or_path)!r}{hint}, the path of a YAML file, or {TIMM}NAME"
        )
    data, lines = read_with_lines(path)
    if isinstance(data, dict) and isinstance(data.get("space"), dict):
        data = data["space"]
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
    family = data.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        problem = (
            f"unknown family {shown(family)}" if "family" in data else "a space needs a family"
        )
        raise TftasError(f"{problem}{did_you_mean(family, family_names())}", key=("family",))
    check_name(data)
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
