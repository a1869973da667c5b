"""Locks between the searches that work on one file, on this machine."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from filelock import FileLock


def file_lock(path: Path, study_name: str, purpose: str, *, timeout: float) -> FileLock:
    """Make a lock that is free the moment its process is gone, however it went.

    It lies in the temporary directory, not beside the file.

    Args:
        path: The file of a storage.
        study_name: A study in it.
        purpose: What is locked.
        timeout: Seconds to wait for it; then it raises ``filelock.Timeout``.
    """
    folder = Path(tempfile.gettempdir()) / "tftas-optuna-locks"
    folder.mkdir(mode=0o777, exist_ok=True)
    name = digest(f"{path.resolve()}/{study_name}/{purpose}")
    return FileLock(folder / f"{name}.lock", mode=0o666, timeout=timeout)


def digest(text: str) -> str:
    """Turn a text into 32 characters that any file system and database takes as a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
