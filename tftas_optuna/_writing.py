"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

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
