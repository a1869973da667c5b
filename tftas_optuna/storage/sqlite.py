"""Opens SQLite files for a writer with several readers, and in read-only places."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import event
from sqlalchemy.pool import NullPool

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage.kinds import Kind, check_kind
from tftas_optuna.storage.machines import check_machine
from tftas_optuna.storage.naming import DEFAULT_STORAGE, sqlite_file

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from sqlalchemy.engine import URL


# How long to wait for another process that is writing.
BUSY_SECONDS = 60.0


def check_sqlite(url: URL, shown: str, *, create: bool) -> Path:
    """Check what can be checked of a SQLite file without opening it.

    Args:
        url: Its URL.
        shown: Its name in messages.
        create: Whether it is opened for writing.

    Returns:
        The file.

    Raises:
        UnavailableError: It cannot be opened, or should not be.
    """
    path = sqlite_file(url)
    if path is None:
        raise UnavailableError(
            f"storage {shown} is in memory only; give a file, such as {DEFAULT_STORAGE}"
        )
    if path.is_dir():
        raise UnavailableError(f"storage {shown} is a directory; give a file in it")
    if not path.parent.is_dir():
        raise UnavailableError(f"storage {shown}: directory {path.parent} does not exist")
    if create:
        if not os.access(path.resolve().parent, os.W_OK):
            raise UnavailableError(
                f"storage {shown}: directory {path.parent} is not writable, and SQLite keeps its"
                " log beside the file; make it writable, or give a file elsewhere"
            )
    elif not path.exists():
        raise UnavailableError(f"storage {shown} does not exist; make it with `tftas-optuna run`")
    elif not path.stat().st_size:
        raise UnavailableError(
            f"storage {shown} holds no studies: the file is empty; make one with"
            " `tftas-optuna run`"
        )
    check_kind(path, Kind.SQLITE, shown)
    check_machine(path.resolve())
    return path


def tune(engine: Engine) -> None:
    """Let readers work beside a writer, and wait for the disk once per transaction.

    With a write-ahead log a killed process loses nothing that it has committed.
    """

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}").close()

    engine.dispose()


def wait_for_writers(path: Path, shown: str) -> None:
    """Wait until no other process writes to a file, if it exists, and check that it is Optuna's.

    Args:
        path: The file.
        shown: Its name in messages.

    Raises:
        UnavailableError: It is the database of another program. Nothing was written.
        sqlite3.Error: Another process writes for too long, or the file is damaged.
    """
    if not path.exists():
        return
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN IMMEDIATE")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        columns = {row[1] for row in connection.execute("PRAGMA table_info(studies)")}
        connection.execute("ROLLBACK")
    if tables and "study_id" not in columns:
        raise UnavailableError(
            f"storage {shown} is a database of another program, without Optuna's tables; give"
            " another file"
        )


def waiting_arguments(url: URL) -> dict[str, Any]:
    """Return engine arguments to wait for other writers, unless the URL has a timeout."""
    return {} if "timeout" in url.query else {"connect_args": {"timeout": BUSY_SECONDS}}


def reading_arguments(path: Path) -> dict[str, Any]:
    """Return engine arguments to read a file in a read-only directory.

    SQLite creates files beside a database with a write-ahead log even to read it. If it cannot,
    it has to assume that nobody else writes either, unless there is a log with its index.
    """
    folder = path.resolve().parent
    if os.access(folder, os.W_OK):
        return {}

    def connect() -> sqlite3.Connection:
        # Checked for every connection: another user with write access may begin a search.
        log = folder / f"{path.resolve().name}-wal"
        mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
        return sqlite3.connect(
            f"file:{quote(str(path.resolve()))}?{mode}",
            timeout=BUSY_SECONDS,
            uri=True,
            check_same_thread=False,
        )

    return {"creator": connect, "poolclass": NullPool}
