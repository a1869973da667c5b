"""Refuses a SQLite file that a search on another machine uses.

SQLite shares the index of its write-ahead log through memory. Two machines that write to one file
on a network drive do not see each other's log and destroy the database, and nothing else detects
that before trials are lost. Journals and database servers work for any number of machines.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import NamedTuple

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage.file_locks import lock

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Holder(NamedTuple):
    """The holder of a lock.

    Attributes:
        host: Name of the machine, for people.
        pid: The process.
        machine: Id of the machine, and of all containers on it, which share its memory.
    """

    host: str
    pid: int
    machine: str

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.machine}"


def this_holder() -> Holder:
    """Return this process as a holder of locks."""
    host = socket.gethostname()
    try:
        machine = _BOOT.read_text().strip()
    except OSError:
        machine = host
    return Holder(host, os.getpid(), machine)


def check_machine(path: Path) -> None:
    """Check that no search on another machine works on a SQLite file.

    Args:
        path: The file.

    Raises:
        UnavailableError: One does; the message names it, and what to use instead.
    """
    for island in _claims(path):
        holder = _active_elsewhere(island)
        if holder is not None:
            raise UnavailableError(
                f"a search on {holder.host} (process {holder.pid}) works on {path}, and SQLite is"
                " for one machine at a time; wait for it, or share a journal (journal:///FILE) or"
                " a PostgreSQL or MySQL database instead"
            )


def _claims(path: Path) -> list[Path]:
    """Return the locks of all searches on a file, of any study."""
    name = re.compile(re.escape(path.name) + r"\.tftas-[0-9a-f]{8}-\d+\.lock")
    try:
        return [other for other in path.parent.iterdir() if name.fullmatch(other.name)]
    except OSError:
        return []


def _active_elsewhere(path: Path) -> Holder | None:
    holder = _read(path)
    if holder is None or holder.machine == this_holder().machine or not _is_held(path):
        return None
    return holder


def _read(path: Path) -> Holder | None:
    try:
        host, pid, machine = path.read_text().split()
        return Holder(host, int(pid), machine)
    except (OSError, ValueError):
        return None


def _is_held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        lock(fd, shared=True)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
