"""Opens SQLite files, for several readers beside the writer, and where nothing can be written."""

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


# How long to wait for another process that writes.
BUSY_SECONDS = 60.0


def check_sqlite(url: URL, shown: str, *, create: bool) -> Path:
    """Check what can be told of a SQLite file without opening it.

    Args:
        url: Its URL.
        shown: How it is called in messages.
        create: Whether it is to be written to.

    Returns:
        The file.

    Raises:
        UnavailableError: It cannot be opened, or should not be.
    """
    path = sqlite_file(url)
    if path is None:
        raise UnavailableError(
            f"storage {shown} keeps nothing; give a file, such as {DEFAULT_STORAGE}"
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
    """Let readers and the writer work at once, and wait for the disk once per transaction.

    With a write-ahead log a killed process loses nothing that was committed.
    """

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}").close()

    engine.dispose()


def wait_for_writers(path: Path, shown: str) -> None:
    """Wait until nobody else writes to a file, if it is there, and check that it is Optuna's.

    Args:
        path: The file.
        shown: How it is called in messages.

    Raises:
        UnavailableError: It is the database of another program. Nothing was written.
        sqlite3.Error: Somebody does all the time, or the file is damaged.
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
    """Return what SQLAlchemy's engine needs to wait for others who write, unless a URL says it."""
    return {} if "timeout" in url.query else {"connect_args": {"timeout": BUSY_SECONDS}}


def reading_arguments(path: Path) -> dict[str, Any]:
    """Return what SQLAlchemy's engine needs to read a file where nothing can be written.

    SQLite makes files beside a database with a write-ahead log even to read it. Where it cannot,
    it has to be told that nobody else writes either, unless a log is there, with its index.
    """
    folder = path.resolve().parent
    if os.access(folder, os.W_OK):
        return {}

    def connect() -> sqlite3.Connection:
        # Looked at for every connection: whoever may write there can begin a search meanwhile.
        log = folder / f"{path.resolve().name}-wal"
        mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
        return sqlite3.connect(
            f"file:{quote(str(path.resolve()))}?{mode}",
            timeout=BUSY_SECONDS,
            uri=True,
            check_same_thread=False,
        )

    return {"creator": connect, "poolclass": NullPool}
