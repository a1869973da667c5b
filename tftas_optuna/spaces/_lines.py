"""Line numbers of the values in a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tftas_optuna.architecture.checks import shown
from tftas_optuna.architecture.files import read_yaml_nodes
from tftas_optuna.errors import InputFileError

Key = tuple[str | int, ...]


def read_with_lines(path: Path) -> tuple[Any, dict[Key, int]]:
    """Read a small YAML file, and the line of every key and list entry, counted from 1.

    Raises:
        UnavailableError: The file cannot be read, is not plain YAML, or repeats a key.
    """
    data, root = read_yaml_nodes(path)
    lines: dict[Key, int] = {}
    if root is not None:
        _walk(path, root, (), lines)
    return data, lines


def line_of(key: Key, lines: dict[Key, int]) -> int | None:
    """Return the line of a key, or of its nearest parent that the file contains."""
    while key not in lines and key:
        key = key[:-1]
    return lines.get(key)


def _walk(path: Path, node: yaml.Node, key: Key, lines: dict[Key, int]) -> None:
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = (*key, name.value)
            line = name.start_mark.line + 1
            if inner in lines and name.value != "<<":
                raise InputFileError(
                    f"{path}, line {line}: key {shown(name.value)} is given twice, first in line"
                    f" {lines[inner]}"
                )
            lines[inner] = line
            _walk(path, value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(path, value, (*key, i), lines)
