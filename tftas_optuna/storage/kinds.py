"""Tells what a file holds, before anything is written to it."""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

# What every journal begins with; a process that was killed may have written less.
_JOURNAL = b'{"op_code":0,"worker_id":"'
# What every record of a journal begins with.
_RECORD = b'{"op_code":'
_LONGEST_LINE = 1 << 20
# Bytes that every SQLite database begins with; SQLite takes a shorter file for an empty one.
_SQLITE_HEADER = 100


class Kind(enum.Enum):
    """What may lie at the path of a storage."""

    NOTHING = "nothing"
    SQLITE = "a SQLite database"
    JOURNAL = "an Optuna journal"
    DIRECTORY = "a directory"
    OTHER = "neither a SQLite database nor an Optuna journal"


def kind_of(path: Path) -> Kind:
    """Look at what lies at a path; a file that is missing or empty is nothing.

    Raises:
        UnavailableError: It cannot be read.
    """
    try:
        if path.is_dir():
            return Kind.DIRECTORY
        if not path.exists():
            return Kind.NOTHING
        # A pipe or a device would wait for somebody, or never end.
        if not path.is_file():
            return Kind.OTHER
        size = path.stat().st_size
        if not size:
            return Kind.NOTHING
        if size >= _SQLITE_HEADER and _is_sqlite(path):
            return Kind.SQLITE
        with path.open("rb") as file:
            line = file.readline(_LONGEST_LINE)
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        raise UnavailableError(f"storage {path} cannot be read ({what})") from error
    begun = not line.endswith(b"\n") and (line.startswith(_JOURNAL) or _JOURNAL.startswith(line))
    return Kind.JOURNAL if begun or is_record(line) else Kind.OTHER


def _is_sqlite(path: Path) -> bool:
    """Tell whether a file is a SQLite database, and ask SQLite itself.

    To open and close the file here would take away the locks that SQLite holds on it in this
    process: another process would then remove the write-ahead log under a search.
    """
    uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        return False  # It cannot be read, which is told when it is opened.
    except sqlite3.DatabaseError as error:
        # A damaged database is one all the same.
        return "not a database" not in str(error)
    return True


def is_begun(line: bytes) -> bool:
    """Tell whether a line may be the beginning of a record that was cut off."""
    return line.startswith(_RECORD) or _RECORD.startswith(line)


def check_kind(path: Path, kind: Kind, shown: str) -> None:
    """Check that a file is of a kind, or is still to be made.

    Args:
        path: The file.
        kind: What it has to be.
        shown: How the storage is called in messages.

    Raises:
        UnavailableError: Something else is in its place, or it cannot be read.
    """
    actual = kind_of(path)
    if actual in (kind, Kind.NOTHING):
        return
    if actual in (Kind.SQLITE, Kind.JOURNAL):
        raise UnavailableError(
            f"storage {shown} is {actual.value}, not {kind.value}; give its path alone, {path}"
        )
    raise refusal(actual, shown)


def refusal(kind: Kind, shown: str) -> UnavailableError:
    """Make the error for a file that is no storage."""
    remedy = "give a file in it" if kind is Kind.DIRECTORY else "give another file"
    return UnavailableError(f"storage {shown} is {kind.value}; {remedy}")


def is_record(line: bytes) -> bool:
    """Tell whether a line is a record of a journal."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(record, dict)
        and isinstance(record.get("op_code"), int)
        and isinstance(record.get("worker_id"), str)
    )
