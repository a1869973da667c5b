"""Tells how a storage is spelled right, where it is clear what was meant."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tftas_optuna.errors import UnavailableError

# Names that other programs have for a kind of database, with ours.
_ALIASES = {
    "postgres": "postgresql",
    "pgsql": "postgresql",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "sqlite3": "sqlite",
    "pymysql": "mysql",
}
_FILES = ("sqlite", "sqlite+pysqlite", "journal")
_SERVERS = ("postgresql", "mysql", "mariadb")
KINDS = "sqlite:///FILE, journal:///FILE, postgresql://USER@HOST/NAME, mysql:// alike, grpc://HOST:PORT"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+_-]*):(/*)(.*)", re.DOTALL)


def check_spelling(storage: str) -> None:
    """Check the kind and the slashes of a storage that is given as text.

    Raises:
        UnavailableError: It is spelled wrong; the message has the right spelling, and no password.
    """
    found = _URL.fullmatch(storage)
    if found is None or ("://" not in storage and Path(storage).exists()):
        return
    kind, slashes, rest = found[1], len(found[2]), found[3]
    if len(kind) == 1:
        if os.name != "nt":
            raise _wrong(storage, "a path of Windows", "give a path of this machine")
        return
    backend, plus, driver = kind.lower().partition("+")
    right = _ALIASES.get(backend, backend) + plus + driver
    if not slashes and rest.isdigit():
        raise _wrong(storage, "a host and a port", f"write grpc://{storage}")
    if right in _FILES:
        wanted = f"{right}:///{rest}"
        if slashes == 1:
            wanted += f", or {right}:////{rest} for a file in the root of the disk"
        fits = slashes > 2 or not rest
    elif right.partition("+")[0] in _SERVERS:
        wanted = f"{right}://{_hidden(rest)}"
        fits = slashes == 2 or (slashes == 3 and "@" not in rest)
    elif right == "grpc":
        wanted, fits = f"grpc://{rest}", slashes == 2
    elif right == "file":
        path = f"/{rest}" if slashes in (1, 3) else rest
        raise _wrong(storage, "spelled wrong", f"give the path alone, {path}")
    else:
        return
    if right != kind or not fits:
        raise _wrong(storage, "spelled wrong", f"write {wanted}")


def _wrong(storage: str, what: str, remedy: str) -> UnavailableError:
    found = _URL.fullmatch(storage)
    shown = storage if found is None else f"{found[1]}:{found[2]}{_hidden(found[3])}"
    return UnavailableError(f"storage {shown!r} is {what}; {remedy}")


def _hidden(rest: str) -> str:
    """Return what follows the kind and the slashes of a storage, without its password."""
    # A password may hold any of : / @ where it is not quoted: it ends before the last @.
    rest = re.sub(r"^([^:@/]*):.*@", r"\1:***@", rest, flags=re.DOTALL)
    return re.sub(r"(passw(?:or)?d=)[^&]*", r"\1***", rest, flags=re.IGNORECASE)
