"""Detects what a file holds, before anything is written to it."""

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

# The beginning of every journal; a killed process may have written less.
_JOURNAL = b'{"op_code":0,"worker_id":"'
# The beginning of every record of a journal.
_RECORD = b'{"op_code":'
_LONGEST_LINE = 1 << 20
# Size of the header of a SQLite database; SQLite takes a shorter file for an empty one.
_SQLITE_HEADER = 100


class Kind(enum.Enum):
    """The kinds of what may be at the path of a storage."""

    NOTHING = "nothing"
    SQLITE = "a SQLite database"
    JOURNAL = "an Optuna journal"
    DIRECTORY = "a directory"
    OTHER = "neither a SQLite database nor an Optuna journal"


def kind_of(path: Path) -> Kind:
    """Return the kind of what is at a path; a missing or empty file is nothing.

    Raises:
        UnavailableError: It cannot be read.
    """
    try:
        if path.is_dir():
            return Kind.DIRECTORY
        if not path.exists():
            return Kind.NOTHING
        # Reading a pipe or a device might block or never end.
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
    """Return whether a file is a SQLite database, by SQLite's own judgement.

    Opening and closing the file here would drop the locks that SQLite holds on it in this
    process: another process could then remove the write-ahead log of a running search.
    """
    uri = f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        return False  # It cannot be read, which is reported when it is opened.
    except sqlite3.DatabaseError as error:
        # A damaged database is still a database.
        return "not a database" not in str(error)
    return True


def is_begun(line: bytes) -> bool:
    """Return whether a line may be the beginning of a record that was cut off."""
    return line.startswith(_RECORD) or _RECORD.startswith(line)


def check_kind(path: Path, kind: Kind, shown: str) -> None:
    """Check that a file is of a kind, or does not exist yet.

    Args:
        path: The file.
        kind: The kind that it must have.
        shown: Name of the storage in messages.

    Raises:
        UnavailableError: It is of another kind, or cannot be read.
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
    """Return the error for a file that is not a storage."""
    remedy = "give a file in it" if kind is Kind.DIRECTORY else "give another file"
    return UnavailableError(f"storage {shown} is {kind.value}; {remedy}")


def is_record(line: bytes) -> bool:
    """Return whether a line is a record of a journal."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(record, dict)
        and isinstance(record.get("op_code"), int)
        and isinstance(record.get("worker_id"), str)
    )
