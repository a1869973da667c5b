"""Reads architectures and other plain data from YAML and JSON files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from tftas_optuna.architecture._base import Architecture
from tftas_optuna.architecture.checks import check_int, shown
from tftas_optuna.errors import InputFileError, TftasError

_MAX_FILE_BYTES = 1_000_000
# Largest number of values that aliases may add: ten lines can expand to billions of values.
_MAX_ALIASED = 10_000


def read_yaml(path: str | Path) -> Any:
    """Read a small YAML or JSON file as plain data; no other objects are constructed.

    Raises:
        UnavailableError: The file is missing, too large, not text, or not plain YAML.
    """
    return read_yaml_nodes(path)[0]


def read_yaml_nodes(path: str | Path) -> tuple[Any, yaml.Node | None]:
    """Read a file like :func:`read_yaml`; also return the root node, None if it is empty."""
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputFileError(f"{path}: larger than {_MAX_FILE_BYTES} bytes, not read")
        return _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise InputFileError(f"{path}: not a text file") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InputFileError):
            raise
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "nested too deeply or malformed"
        raise InputFileError(f"{path}{line}: not plain YAML ({problem})") from error


def parse_yaml(text: str) -> Any:
    """Read YAML text as plain data; no other objects are constructed.

    Raises:
        yaml.YAMLError: The text is not plain YAML, or its aliases expand to too many values.
    """
    return _parse(text)[0]


def read_architecture(path: str | Path) -> tuple[Architecture, dict[str, Any]]:
    """Read an architecture from an exported file.

    Returns:
        The architecture, and the ``model`` settings of the document (``img_size``,
        ``num_classes``, ``in_chans``), empty if the file has none.

    Raises:
        UnavailableError: The file cannot be read or does not contain an architecture.
    """
    data = read_yaml(path)
    try:
        architecture = Architecture.from_dict(data)
        settings = data.get("model", {})
        if not isinstance(settings, dict):
            raise TftasError(f"model is {shown(settings)}, expected a mapping")
        model = {
            name: settings[name]
            for name in ("img_size", "num_classes", "in_chans")
            if name in settings
        }
        for name, value in model.items():
            check_int(f"model.{name}", value, 0 if name == "num_classes" else 1, 1_000_000)
    except TftasError as error:
        raise InputFileError(f"{path}: {error}") from error
    return architecture, model


def _parse(text: str) -> tuple[Any, yaml.Node | None]:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, None
        sizes: dict[int, float] = {}
        if _size(root, sizes) > len(sizes) + _MAX_ALIASED:
            raise yaml.MarkedYAMLError(
                problem=f"aliases stand for more than {_MAX_ALIASED} values; write out what you"
                " mean",
                problem_mark=root.start_mark,
            )
        return loader.construct_document(root), root
    finally:
        loader.dispose()


def _size(node: yaml.Node, sizes: dict[int, float]) -> float:
    """Count the nodes of a tree with all aliases expanded; infinite if an alias is recursive."""
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = (part for entry in inner for part in (entry if type(entry) is tuple else (entry,)))
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]
