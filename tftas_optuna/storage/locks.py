"""Locks between the searches that work on one file, on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from filelock import FileLock

from tftas_optuna.errors import UnavailableError


def file_lock(path: Path, study_name: str, purpose: str, *, timeout: float) -> FileLock:
    """Make a lock that is free the moment its process is gone, however it went.

    It lies in the temporary directory, for all users of this machine.

    Args:
        path: The file of a storage.
        study_name: A study in it.
        purpose: What is locked.
        timeout: Seconds to wait for it; then it raises ``filelock.Timeout``.

    Raises:
        UnavailableError: No files can be made there.
    """
    folder = Path(tempfile.gettempdir()) / "tftas-optuna-locks"
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        # Whatever the umask of the first user says, the second one needs it too.
        folder.chmod(0o777)
    if not os.access(folder, os.W_OK):
        raise UnavailableError(
            f"no locks can be made in {folder}; make it writable for all who search, or set TMPDIR"
        )
    name = digest(f"{path.resolve()}/{study_name}/{purpose}")
    return FileLock(folder / f"{name}.lock", mode=0o666, timeout=timeout)


def digest(text: str) -> str:
    """Turn a text into 32 characters that any file system and database takes as a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
