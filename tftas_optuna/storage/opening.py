"""Opens Optuna storages, with errors that say what to do."""

from __future__ import annotations

import random
import sqlite3
import time
import warnings
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from sqlalchemy.exc import NoSuchModuleError, ProgrammingError, SQLAlchemyError

from tftas_optuna._given import expect
from tftas_optuna.errors import UnavailableError, did_you_mean, first_line
from tftas_optuna.storage._optuna import engine_of, is_tried_release, journal_lock, unwrapped
from tftas_optuna.storage.bulk_reading import BulkReadingStorage
from tftas_optuna.storage.journal import open_journal, prepare_journal
from tftas_optuna.storage.kinds import Kind, check_kind
from tftas_optuna.storage.machines import check_machine
from tftas_optuna.storage.naming import DRIVERS, GRPC, journal_file, parse_url, shown, storage_file
from tftas_optuna.storage.spelling import KINDS
from tftas_optuna.storage.sqlite import (
    check_sqlite,
    reading_arguments,
    tune,
    wait_for_writers,
    waiting_arguments,
)
from tftas_optuna.storage.waiting import WAITING, say_if_slow

if TYPE_CHECKING:
    from optuna import Study
    from sqlalchemy.engine import URL

_RACES = 10
_PROXY_SECONDS = 10
# Studies that a message names at most.
_LISTED = 8
# Advice for errors of drivers and systems, by a part of their message.
_ADVICE = {
    "database is locked": "another program keeps writing to it: stop that program, then run the"
    " same command again",
    "lock wait timeout": "another program holds a lock on it: stop that program, then run the"
    " same command again",
    "malformed": "the file is damaged: go on with a copy of it, or save what is left by"
    " `sqlite3 FILE .recover`",
    "not a database": "the file is damaged, or not a SQLite database: go on with a copy of it",
    "disk i/o error": "check the disk, and whether the file still exists",
    "disk is full": "make room on the disk, then run the same command again",
    "no space left": "make room on the disk, then run the same command again",
    "quota exceeded": "make room on the disk, then run the same command again",
    "readonly database": "make the file and its directory writable",
    "read-only": "give a place that can be written to",
    "permission denied": "make it readable and writable for you, or give another place",
}
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}


def open_storage(storage: str | BaseStorage, *, create: bool) -> BaseStorage:
    """Open a storage, given in any form that Optuna's tools take.

    Args:
        storage: A database URL; ``journal:///`` and the path of a journal file; the path of a
            SQLite database or a journal, told apart by their contents or, for a new file, by its
            ending (``.db``, ``.sqlite``, ``.sqlite3``, ``.journal``, ``.log``);
            ``grpc://host:port`` for Optuna's storage proxy; or a storage object.
        create: Whether to prepare it for writing: a missing file and missing tables are created.

    Raises:
        UnavailableError: It cannot be reached, does not exist, or is another kind of file; its
            driver is not installed; or a search on another machine uses a file that is for one
            machine at a time. The message never contains a password.
    """
    if not isinstance(storage, str):
        expect("storage", storage, BaseStorage, "a URL, a path, or a storage of Optuna")
        return _opened(unwrapped(storage), create=create)
    journal = journal_file(storage)
    if journal is not None:
        return open_journal(journal, create=create)
    if storage.startswith(GRPC):
        return _open_proxy(storage)
    url = parse_url(storage)
    name = shown(storage)
    try:
        if url.get_backend_name() != "sqlite":
            return _open_database(url, {}, create=create)
        path = check_sqlite(url, name, create=create)
        arguments = waiting_arguments(url) | ({} if create else reading_arguments(path))
        if create:
            with say_if_slow(WAITING):
                wait_for_writers(path, name)
        opened = _open_database(url, arguments, create=create)
        if create:
            tune(engine_of(opened))
        return opened
    except (ImportError, NoSuchModuleError) as error:
        backend = url.get_backend_name()
        extra = _EXTRAS.get(backend)
        hint = f"; pip install 'tftas-optuna[{extra}]'" if extra else f"; known: {KINDS}"
        if extra and url.get_driver_name() != DRIVERS[backend]:
            hint += f", and write {backend}:// for its driver"
        raise UnavailableError(f"storage {name}: its driver is not installed{hint}") from error
    except (SQLAlchemyError, StorageInternalError, sqlite3.Error) as error:
        if not create and _lacks_tables(error):
            raise UnavailableError(
                f"storage {name} holds no studies; make one with `tftas-optuna run`"
            ) from error
        raise UnavailableError(f"storage {name} cannot be opened: {advised(error)}") from error
    except RuntimeError as error:
        raise UnavailableError(f"storage {name} cannot be opened: {first_line(error)}") from error


def load_study(storage: str | BaseStorage, study_name: str | None = None) -> Study:
    """Load a study by name, or the only one.

    Raises:
        UnavailableError: There is no such study, no study at all, or several without a name given.
    """
    opened = open_storage(storage, create=False)
    names = list_studies(opened, storage, study_name)
    if len(names) > 1:
        raise UnavailableError(
            f"storage {shown(storage)} holds {_listed(names)}; give one as --study-name"
        )
    return optuna.load_study(study_name=names[0], storage=opened)


def list_studies(
    opened: BaseStorage, storage: str | BaseStorage, study_name: str | None = None
) -> list[str]:
    """Return the names of all studies in a storage, or check and return one name.

    Args:
        opened: The storage.
        storage: The storage as it was given, for messages.
        study_name: A study; None for all.

    Raises:
        UnavailableError: There is no such study, or no study at all.
    """
    try:
        names = optuna.get_all_study_names(opened)
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UnavailableError(
            f"storage {shown(storage)} cannot be read: {advised(error)}"
        ) from error
    if not names:
        raise UnavailableError(
            f"storage {shown(storage)} holds no studies; make one with `tftas-optuna run`"
        )
    if study_name is None:
        return names
    if study_name not in names:
        raise UnavailableError(
            f"unknown study {study_name!r} in {shown(storage)}"
            f"{did_you_mean(study_name, names, most=_LISTED)}"
        )
    return [study_name]


def reason(error: BaseException) -> str:
    """Return the first line of a database driver's message."""
    origin = getattr(error, "orig", None) or error.__cause__ or error
    origin = getattr(origin, "orig", None) or origin
    return first_line(origin)


def advised(error: BaseException) -> str:
    """Return the message of a database driver or the system, and what to do about it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    elif isinstance(error, OSError) and error.strerror:
        message = error.strerror
    else:
        message = reason(error)
    advice = next((advice for part, advice in _ADVICE.items() if part in message.lower()), None)
    return message if advice is None else f"{message}; {advice}"


def _opened(storage: BaseStorage, *, create: bool) -> BaseStorage:
    """Check and prepare a storage object like one that is opened here."""
    path = storage_file(storage)
    if path is not None and isinstance(storage, RDBStorage):
        check_machine(path)
    if path is not None and isinstance(storage, JournalStorage):
        check_kind(path, Kind.JOURNAL, str(path))
        if create:
            prepare_journal(path, journal_lock(storage))
    return storage


def _open_database(url: URL, arguments: dict[str, Any], *, create: bool) -> RDBStorage:
    # Optuna would take braces for placeholders.
    text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    options = {"engine_kwargs": arguments, "skip_table_creation": not create}
    for _ in range(_RACES if create else 0):
        try:
            return _new_storage(text, **options)
        except (SQLAlchemyError, StorageInternalError) as error:
            if not any(sign in str(error).lower() for sign in ("exist", "unique", "duplicate")):
                raise
            # Another process is creating the tables.
            time.sleep(random.uniform(0.1, 0.5))
    return _new_storage(text, **options)


def _new_storage(text: str, **options: Any) -> RDBStorage:
    """Open a database; checks its schema in a tenth of the time that Optuna needs."""
    if is_tried_release():
        opened = BulkReadingStorage(text, skip_compatibility_check=True, **options)
        if opened.is_known:
            return opened
        engine_of(opened).dispose()
    return BulkReadingStorage(text, **options)


def _lacks_tables(error: BaseException) -> bool:
    origin = error.__cause__ or error
    return isinstance(origin, ProgrammingError) or reason(error).startswith("no such table")


def _open_proxy(storage: str) -> BaseStorage:
    host, _, port = storage.removeprefix(GRPC).partition(":")
    if not host or not port.isdigit():
        raise UnavailableError(f"storage {storage!r} is not of the form grpc://host:port")
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
        raise UnavailableError(f"storage {storage} cannot be opened: no server answers") from error
    return proxy


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"
