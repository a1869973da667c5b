"""Writes files atomically, and never over files that this package has not written."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LONGEST_STEM = 100


def file_stem(name: str) -> str:
    """Return a part of file names for what a user has named in any way."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-_")[:_LONGEST_STEM] or "unnamed"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file to a temporary path, and move it to its place when it is complete.

    Args:
        path: The file to write, in an existing directory.

    Yields:
        The temporary path: the same file name in a new directory beside it, because some writers
        choose the format by the file name.

    Raises:
        OSError: The directory cannot be written to.
    """
    with tempfile.TemporaryDirectory(prefix=".tftas-", dir=path.parent) as folder:
        scratch = Path(folder) / path.name
        yield scratch
        os.replace(scratch, path)


def check_ours(path: Path, mark: bytes, *, within: int = 4096) -> None:
    """Check that a file can be written without replacing a file of another program.

    Args:
        path: The file, which may be missing or empty.
        mark: Bytes near the beginning or the end of every such file of this package.
        within: Length of the beginning and the end that are searched, in bytes.

    Raises:
        UnavailableError: The path is a file of another program, or cannot be read.
    """
    if not os.path.lexists(path):
        return
    is_ours = False
    if path.is_file():
        try:
            with path.open("rb") as file:
                begin = file.read(within)
                file.seek(max(0, file.seek(0, os.SEEK_END) - within))
                is_ours = not begin or mark in begin or mark in file.read()
        except OSError as error:
            raise UnavailableError(f"{path} cannot be read ({error.strerror})") from error
    if not is_ours:
        raise UnavailableError(
            f"{path} is in the way: tftas-optuna has not written it; move it, or give another name"
        )


def json_text(data: Any, *, indent: int | None = None) -> str:
    """Return plain data as JSON; numbers that are not finite become null."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return data
