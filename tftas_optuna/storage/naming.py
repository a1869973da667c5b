"""What a storage is called and where it lies, however it is spelled."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from optuna.storages import GrpcStorageProxy, JournalStorage, RDBStorage
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage._optuna import engine_of, journal_path, proxy_address, unwrapped

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

DEFAULT_STORAGE = "sqlite:///tftas.db"
GRPC = "grpc://"

_JOURNAL = "journal:///"
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}


def storage_file(storage: str | BaseStorage | None) -> Path | None:
    """Return the file of a SQLite or journal storage, free of links; None for any other."""
    path = _file(storage)
    return path.resolve() if path is not None else None


def storage_name(storage: str | BaseStorage | None) -> str:
    """Name a storage, the same in every run and spelling, and without its password."""
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
    """Return how a storage is called in messages: as it was given, without its password."""
    if not isinstance(storage, str):
        return storage_name(storage)
    if journal_file(storage) is not None or storage.startswith(GRPC):
        return storage
    return make_url(storage).render_as_string(hide_password=True)


def journal_file(storage: str) -> Path | None:
    """Return the file of a journal storage; None for a database URL."""
    if storage.startswith(_JOURNAL):
        return Path(storage.removeprefix(_JOURNAL))
    return Path(storage) if Path(storage).is_file() else None


def parse_url(storage: str) -> URL:
    """Read the URL of a database, and choose a driver where it names none.

    Raises:
        UnavailableError: It is no URL.
    """
    try:
        url = make_url(storage)
    except ArgumentError as error:
        raise UnavailableError(
            f"storage {storage!r} is neither a database URL such as {DEFAULT_STORAGE} nor an"
            " existing journal file"
        ) from error
    # Without a driver in the URL SQLAlchemy asks for psycopg2 and mysqlclient; the extras bring
    # pure-Python ones.
    backend = url.get_backend_name()
    if url.drivername == backend and backend in _DRIVERS:
        default = {"postgresql": "psycopg2"}.get(backend, "MySQLdb")
        if importlib.util.find_spec(default) is None:
            url = url.set(drivername=f"{backend}+{_DRIVERS[backend]}")
    return url


def sqlite_file(url: URL) -> Path | None:
    """Return the file that the URL of a SQLite database names; None for one in memory."""
    name = url.database or ""
    if name.startswith("file:") and "uri" in url.query:
        name = unquote(urlsplit(name).path)
    return None if name in ("", ":memory:") else Path(name)


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
        # The file that is really open, whatever the URL and the working directory say.
        with engine_of(storage).connect() as connection:
            opened: str = connection.exec_driver_sql("PRAGMA database_list").fetchall()[0][2]
        return Path(opened) if opened else None
    return None
