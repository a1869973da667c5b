"""Writes files whole or not at all, and never over somebody else's."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name, and rename it when it is whole.

    Args:
        path: What is to be written, in a directory that exists.

    Yields:
        Where to write it: the same name in a new directory beside it, so that what goes by the
        ending of a name still does.

    Raises:
        OSError: The directory cannot be written to.
    """
    with tempfile.TemporaryDirectory(prefix=".tftas-", dir=path.parent) as folder:
        scratch = Path(folder) / path.name
        yield scratch
        os.replace(scratch, path)


def check_ours(path: Path, mark: bytes, *, within: int = 4096) -> None:
    """Check that nothing of somebody else's lies where a file is to be written.

    Args:
        path: The file, which may be missing or empty.
        mark: What stands near the beginning or the end of every such file of this package.
        within: How near, in bytes.

    Raises:
        UnavailableError: Something is in the way, or cannot be looked at.
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
    """Write plain data as JSON; numbers that are not finite become null."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return data
