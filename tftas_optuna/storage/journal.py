"""Opens journal files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage._optuna import SharingJournal

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.storages import JournalStorage

# A lock file older than this was left by a process that was killed; an append takes milliseconds.
_LOCK_SECONDS = 10
_LONGEST_LINE = 1 << 20


def open_journal(path: Path, *, create: bool) -> JournalStorage:
    """Open a journal file.

    Args:
        path: The file.
        create: Whether it is to be written to, and made when it is missing.

    Raises:
        UnavailableError: It does not exist, or is no journal.
    """
    if not path.exists() and not create:
        raise UnavailableError(f"storage {path} does not exist; make it with `tftas-optuna run`")
    if not path.parent.is_dir():
        raise UnavailableError(f"storage {path}: directory {path.parent} does not exist")
    lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
    try:
        if create and path.exists():
            trim(path, lock)
        return SharingJournal(JournalFileBackend(str(path), lock_obj=lock))
    except (OSError, ValueError, KeyError) as error:
        raise UnavailableError(
            f"storage {path} cannot be opened as a journal: {_first_line(error)}"
        ) from error


def trim(path: Path, lock: Any) -> None:
    """Cut off half a line that a killed process left; Optuna would never read past it.

    Args:
        path: The journal.
        lock: The lock under which it is appended to.
    """
    lock.acquire()
    try:
        with path.open("rb+") as file:
            file.seek(0, os.SEEK_END)
            end = file.tell()
            file.seek(max(0, end - _LONGEST_LINE))
            tail = file.read()
            if tail and not tail.endswith(b"\n"):
                file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)
    finally:
        lock.release()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
