"""Opens Optuna storages, with errors that say what to do."""

from __future__ import annotations

import importlib.util
import os
import random
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, ProgrammingError, SQLAlchemyError

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from optuna import Study
    from sqlalchemy import Engine

DEFAULT_STORAGE = "sqlite:///tftas.db"

_JOURNAL = "journal:///"
_GRPC = "grpc://"
# A lock file older than this was left by a process that was killed; an append takes milliseconds.
_LOCK_SECONDS = 10
_LONGEST_LINE = 1 << 20
_RACES = 10
_PROXY_SECONDS = 10
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}


def open_storage(storage: str | BaseStorage, *, create: bool) -> BaseStorage:
    """Open a storage given as Optuna's tools take it.

    Args:
        storage: A database URL; the path of an existing journal file, or ``journal:///`` and a
            path for a new one; ``grpc://host:port`` for Optuna's storage proxy; or a storage
            object, returned as it is.
        create: Whether a missing file and missing tables are made.

    Raises:
        UnavailableError: It cannot be reached, does not exist, or its driver is not installed. The
            message never contains a password.
    """
    if not isinstance(storage, str):
        return storage
    journal = journal_file(storage)
    if journal is not None:
        return _open_journal(journal, create=create)
    if storage.startswith(_GRPC):
        return _open_proxy(storage)
    url = _parse(storage)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        _check_sqlite(url, shown, create=create)
    try:
        opened = _open_database(url, create=create)
        if create and url.get_backend_name() == "sqlite":
            _tune_sqlite(opened.engine)
        return opened
    except (ImportError, NoSuchModuleError) as error:
        extra = _EXTRAS.get(url.get_backend_name())
        hint = f"; pip install 'tftas-optuna[{extra}]'" if extra else ""
        raise UnavailableError(f"storage {shown}: its driver is not installed{hint}") from error
    except (SQLAlchemyError, StorageInternalError) as error:
        if not create and isinstance(error.__cause__ or error, ProgrammingError):
            raise UnavailableError(
                f"storage {shown} holds no studies; make one with `tftas-optuna run`"
            ) from error
        raise UnavailableError(f"storage {shown} cannot be opened: {reason(error)}") from error
    except RuntimeError as error:
        raise UnavailableError(
            f"storage {shown} cannot be opened: {_first_line(error)}"
        ) from error


def _open_database(url: URL, *, create: bool) -> RDBStorage:
    text = url.render_as_string(hide_password=False)
    for _ in range(_RACES if create else 0):
        try:
            return RDBStorage(text)
        except (SQLAlchemyError, StorageInternalError) as error:
            if not any(sign in str(error).lower() for sign in ("exist", "unique", "duplicate")):
                raise
            # Somebody else creates the tables at this moment.
            time.sleep(random.uniform(0.1, 0.5))
    return RDBStorage(text, skip_table_creation=not create)


def storage_file(storage: str | BaseStorage | None) -> Path | None:
    """Give the file of a SQLite or journal storage; None for any other."""
    if isinstance(storage, RDBStorage):
        storage = storage.engine.url.render_as_string(hide_password=False)
    if not isinstance(storage, str):
        return None
    if journal_file(storage) is not None:
        return journal_file(storage)
    url = _parse(storage)
    on_file = url.get_backend_name() == "sqlite" and url.database is not None
    return Path(url.database) if on_file and url.database else None


def storage_name(storage: str | BaseStorage | None) -> str:
    """Name a storage, the same in every run and without its password."""
    path = storage_file(storage)
    if path is not None:
        return str(path.resolve())
    if isinstance(storage, RDBStorage):
        return storage.engine.url.render_as_string(hide_password=True)
    return _shown(storage) if storage is not None else "memory"


def journal_file(storage: str) -> Path | None:
    """Give the file of a journal storage; None for a database URL."""
    if storage.startswith(_JOURNAL):
        return Path(storage.removeprefix(_JOURNAL))
    return Path(storage) if Path(storage).is_file() else None


def load_study(storage: str | BaseStorage, study_name: str | None = None) -> Study:
    """Load a study, by name or because it is the only one.

    Raises:
        UnavailableError: There is no such study, none at all, or several to choose from.
    """
    opened = open_storage(storage, create=False)
    names = list_studies(opened, storage, study_name)
    if len(names) > 1:
        raise UnavailableError(
            f"storage {_shown(storage)} holds {_listed(names)}; give one as --study-name"
        )
    return optuna.load_study(study_name=names[0], storage=opened)


def list_studies(
    opened: BaseStorage, storage: str | BaseStorage, study_name: str | None = None
) -> list[str]:
    """Give the names of the studies in a storage, or just the one asked for.

    Args:
        opened: The storage.
        storage: How it was given, for messages.
        study_name: The one asked for.

    Raises:
        UnavailableError: There is no such study, or none at all.
    """
    try:
        names = optuna.get_all_study_names(opened)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UnavailableError(
            f"storage {_shown(storage)} holds no studies: {reason(error)}"
        ) from error
    if not names:
        raise UnavailableError(
            f"storage {_shown(storage)} holds no studies; make one with `tftas-optuna run`"
        )
    if study_name is None:
        return names
    if study_name not in names:
        raise UnavailableError(
            f"unknown study {study_name!r} in {_shown(storage)}; known: {_listed(names)}"
        )
    return [study_name]


def _shown(storage: str | BaseStorage) -> str:
    if not isinstance(storage, str):
        return type(storage).__name__
    if journal_file(storage) is not None or storage.startswith(_GRPC):
        return storage
    return make_url(storage).render_as_string(hide_password=True)


def _parse(storage: str) -> URL:
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


def _open_journal(path: Path, *, create: bool) -> JournalStorage:
    if not path.exists() and not create:
        raise UnavailableError(f"storage {path} does not exist; make it with `tftas-optuna run`")
    if not path.parent.is_dir():
        raise UnavailableError(f"storage {path}: directory {path.parent} does not exist")
    lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
    try:
        if create and path.exists():
            _trim(path, lock)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (OSError, ValueError, KeyError) as error:
        raise UnavailableError(
            f"storage {path} cannot be opened as a journal: {_first_line(error)}"
        ) from error


def _trim(path: Path, lock: JournalFileSymlinkLock) -> None:
    """Cut off half a line that a killed process left; Optuna would never read past it."""
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


def _open_proxy(storage: str) -> BaseStorage:
    host, _, port = storage.removeprefix(_GRPC).partition(":")
    if not host or not port.isdigit():
        raise UnavailableError(f"storage {storage!r} is no grpc://host:port")
    try:
        import grpc  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"storage {storage}: its driver is not installed; pip install 'tftas-optuna[grpc]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        proxy = GrpcStorageProxy(host=host, port=int(port))
    try:
        proxy.wait_server_ready(timeout=_PROXY_SECONDS)
    except ConnectionError as error:
        raise UnavailableError(f"storage {storage} cannot be opened: nothing answers") from error
    return proxy


def _tune_sqlite(engine: Engine) -> None:
    """Let readers and the writer work at once, and wait for the disk once per transaction.

    With a write-ahead log a killed process loses nothing that was committed.
    """

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}").close()

    engine.dispose()


def _check_sqlite(url: URL, shown: str, *, create: bool) -> None:
    if url.database in (None, "", ":memory:"):
        raise UnavailableError(
            f"storage {shown} keeps nothing; give a file, such as {DEFAULT_STORAGE}"
        )
    path = Path(url.database)
    if path.is_dir():
        raise UnavailableError(f"storage {shown} is a directory; give a file in it")
    if not path.exists() and not create:
        raise UnavailableError(f"storage {shown} does not exist; make it with `tftas-optuna run`")
    if not path.parent.is_dir():
        raise UnavailableError(f"storage {shown}: directory {path.parent} does not exist")


def reason(error: BaseException) -> str:
    """Give the first line of what a database driver said."""
    origin = getattr(error, "orig", None) or error.__cause__ or error
    origin = getattr(origin, "orig", None) or origin
    return _first_line(origin)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
