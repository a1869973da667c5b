"""Names and files of storages, the same in every spelling."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from optuna.storages import GrpcStorageProxy, JournalStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage._optuna import engine_of, journal_path, proxy_address, unwrapped
from tftas_optuna.storage.kinds import Kind, kind_of, refusal
from tftas_optuna.storage.spelling import check_spelling

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

DEFAULT_STORAGE = "sqlite:///tftas.db"
GRPC = "grpc://"

_JOURNAL = "journal:///"
# The kind to create for a missing or empty file, by its ending.
_ENDINGS = {
    ".db": Kind.SQLITE,
    ".sqlite": Kind.SQLITE,
    ".sqlite3": Kind.SQLITE,
    ".journal": Kind.JOURNAL,
    ".log": Kind.JOURNAL,
}
# Settings of Python's driver, and those of SQLite itself for a file given as a URI.
_SQLITE_KEYS = (
    "timeout",
    "detect_types",
    "isolation_level",
    "check_same_thread",
    "cached_statements",
    "uri",
)
_SQLITE_URI_KEYS = ("cache", "immutable", "mode", "modeof", "nolock", "psow", "vfs")
DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}


def storage_file(storage: str | BaseStorage | None) -> Path | None:
    """Return the file of a SQLite or journal storage, links resolved; None for any other."""
    path = _file(storage)
    return path.resolve() if path is not None else None


def storage_name(storage: str | BaseStorage | None) -> str:
    """Return the name of a storage, equal in every run and spelling, without its password."""
    if storage is None:
        return "memory"
    path = storage_file(storage)
    if path is not None:
        return str(path)
    if not isinstance(storage, str):
        storage = unwrapped(storage)
    if isinstance(storage, GrpcStorageProxy):
        return f"{GRPC}{proxy_address(storage)}"
    if isinstance(storage, str) and storage.startswith(GRPC):
        return storage
    if isinstance(storage, RDBStorage):
        url = engine_of(storage).url
    elif isinstance(storage, str):
        url = make_url(storage)
    else:
        return type(storage).__name__
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def shown(storage: str | BaseStorage) -> str:
    """Return the name of a storage for messages: as it was given, without its password."""
    if not isinstance(storage, str):
        return storage_name(storage)
    if "://" not in storage or storage.startswith((_JOURNAL, GRPC, "sqlite:", "sqlite+pysqlite:")):
        return storage
    return make_url(storage).render_as_string(hide_password=True)


def storage_url(storage: str) -> str:
    """Return the URL of a storage, which may be given as the path of its file.

    For a path, the contents of the file decide whether it is a SQLite database or a journal, and
    for a missing or empty file the ending of its name. Nothing else in this package decides that.

    Raises:
        UnavailableError: The file is neither, and no storage may be created in its place; or it is
            spelled wrong.
    """
    check_spelling(storage)
    if "://" in storage:
        return storage
    path = Path(storage)
    kind = kind_of(path)
    if kind is Kind.NOTHING:
        kind = _ENDINGS.get(path.suffix.lower(), Kind.OTHER)
        if kind is Kind.OTHER:
            raise UnavailableError(
                f"storage {storage!r} is neither a database URL nor the file of a study; to make"
                f" one, give sqlite:///{storage} or journal:///{storage}"
            )
    if kind is Kind.JOURNAL:
        return f"{_JOURNAL}{storage}"
    if kind is Kind.SQLITE:
        return URL.create("sqlite", database=storage).render_as_string()
    raise refusal(kind, storage)


def journal_file(storage: str) -> Path | None:
    """Return the file of a journal storage; None for any other.

    Raises:
        UnavailableError: It is neither a URL nor the file of a storage.
    """
    url = storage_url(storage)
    return Path(url.removeprefix(_JOURNAL)) if url.startswith(_JOURNAL) else None


def parse_url(storage: str) -> URL:
    """Parse the URL of a database, and choose a driver if it names none.

    Raises:
        UnavailableError: It is not a URL, or has a query that SQLite does not know.
    """
    text = storage_url(storage)
    try:
        url = make_url(text)
        backend = url.get_backend_name()
        if backend == "journal":
            raise ArgumentError
    except ArgumentError as error:
        raise UnavailableError(
            f"storage {storage!r} is neither a database URL such as {DEFAULT_STORAGE} nor a"
            f" journal such as {_JOURNAL}tftas.journal"
        ) from error
    if backend == "sqlite":
        _check_query(url, text.partition("?")[2], storage)
    # By default SQLAlchemy uses psycopg2 and mysqlclient; our extras install other drivers.
    if url.drivername == backend and backend in DRIVERS:
        default = {"postgresql": "psycopg2"}.get(backend, "MySQLdb")
        if importlib.util.find_spec(default) is None:
            url = url.set(drivername=f"{backend}+{DRIVERS[backend]}")
    return url


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL; None for a database in memory."""
    name = url.database or ""
    if url.query.get("mode") == "memory":
        return None
    if name.startswith("file:") and "uri" in url.query:
        name = unquote(urlsplit(name).path)
    return None if name in ("", ":memory:") else Path(name)


def _check_query(url: URL, query: str, shown: str) -> None:
    """Check the query of a SQLite URL: an unknown key may be meant as part of the file's name."""
    is_uri = "uri" in url.query
    if is_uri and not (url.database or "").startswith("file:"):
        raise UnavailableError(
            f"storage {shown}: uri=true needs file: before the name, as in"
            f" sqlite:///file:{url.database}?uri=true"
        )
    allowed = _SQLITE_KEYS + (_SQLITE_URI_KEYS if is_uri else ())
    for key, _ in parse_qsl(query, keep_blank_values=True):
        if key in _SQLITE_URI_KEYS and not is_uri:
            raise UnavailableError(
                f"storage {shown}: {key} needs file: before the name and uri=true, as in"
                f" sqlite:///file:{url.database}?{key}=...&uri=true"
            )
        if key not in allowed:
            raise UnavailableError(
                f"storage {shown}: {key!r} after ? is not a setting; known:"
                f" {', '.join(allowed)}; a file with ? in its name is given by its path alone"
            )


def _file(storage: str | BaseStorage | None) -> Path | None:
    if isinstance(storage, str):
        if storage.startswith(GRPC):
            return None
        if (journal := journal_file(storage)) is not None:
            return journal
        url = parse_url(storage)
        return sqlite_file(url) if url.get_backend_name() == "sqlite" else None
    storage = unwrapped(storage) if storage is not None else None
    if isinstance(storage, JournalStorage):
        return journal_path(storage)
    if isinstance(storage, RDBStorage) and engine_of(storage).dialect.name == "sqlite":
        # The file that is really open, whatever the URL and the working directory are now.
        with engine_of(storage).connect() as connection:
            opened: str = connection.exec_driver_sql("PRAGMA database_list").fetchall()[0][2]
        return Path(opened) if opened else None
    return None
