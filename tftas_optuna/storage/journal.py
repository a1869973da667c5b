"""Opens journal files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from tftas_optuna.errors import UnavailableError, first_line
from tftas_optuna.storage._optuna import SharingJournal
from tftas_optuna.storage.kinds import Kind, check_kind, is_begun, is_record

if TYPE_CHECKING:
    from optuna.storages import JournalStorage

# A lock file older than this was left by a process that was killed; an append takes milliseconds.
_LOCK_SECONDS = 10


def open_journal(path: Path, *, create: bool) -> JournalStorage:
    """Open a journal file.

    Args:
        path: The file.
        create: Whether to prepare it for writing, and create it if it is missing.

    Raises:
        UnavailableError: It does not exist, or is not a journal.
    """
    if not path.exists() and not create:
        raise UnavailableError(f"storage {path} does not exist; make it with `tftas-optuna run`")
    if not path.parent.is_dir():
        raise UnavailableError(f"storage {path}: directory {path.parent} does not exist")
    lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
    check_kind(path, Kind.JOURNAL, str(path))
    try:
        if create:
            prepare_journal(path, lock)
        return SharingJournal(JournalFileBackend(str(path), lock_obj=lock))
    except (OSError, ValueError, KeyError) as error:
        raise UnavailableError(
            f"storage {path} cannot be opened as a journal: {first_line(error)}"
        ) from error


def prepare_journal(path: Path, lock: Any) -> None:
    """Prepare a journal for writing: repair a partial line that a killed process left.

    Optuna would never read beyond it.

    Args:
        path: The journal.
        lock: The lock for appending to it.

    Raises:
        UnavailableError: The file is not a journal, a line of it is damaged, or another file is
            in the place of its lock. Nothing was written.
    """
    check_kind(path, Kind.JOURNAL, str(path))
    _check_lock(path)
    if not path.exists():
        return
    lock.acquire()
    try:
        with path.open("rb+") as file:
            if file.seek(0, os.SEEK_END) and _lacks_an_end(file):
                _mend(file, path)
    finally:
        lock.release()


def _lacks_an_end(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read() != b"\n"


def _mend(file: BinaryIO, path: Path) -> None:
    """Remove a partial last line, or end a whole one, if all lines before it are records."""
    file.seek(0)
    end = 0
    for number, line in enumerate(file, start=1):
        if is_record(line):
            end += len(line)
        elif line.endswith(b"\n") or not is_begun(line):
            raise UnavailableError(
                f"storage {path} is damaged: line {number} is no record of a journal; restore a"
                " copy of the file, or remove that line"
            )
    if end == file.tell():
        file.write(b"\n")
    else:
        file.truncate(end)


def _check_lock(path: Path) -> None:
    """Check the place of Optuna's lock: Optuna removes any file that stays there for long."""
    lock = path.with_name(f"{path.name}.lock")
    if lock.is_symlink():
        is_lock = Path(os.readlink(lock)).name == path.name
    else:
        is_lock = not lock.exists() or (lock.is_file() and not lock.stat().st_size)
    if not is_lock:
        raise UnavailableError(
            f"storage {path}: {lock} is in the way, where Optuna locks it; move that elsewhere"
        )
