"""Opens Optuna storages, with errors that say what to do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, ProgrammingError, SQLAlchemyError

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from optuna import Study

DEFAULT_STORAGE = "sqlite:///tftas.db"

_EXTRAS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}


def open_storage(storage: str | BaseStorage, *, create: bool) -> BaseStorage:
    """Open a storage given as Optuna's tools take it.

    Args:
        storage: A database URL; the path of an existing journal file; or a storage object,
            returned as it is.
        create: Whether a missing SQLite file and missing tables are made.

    Raises:
        UnavailableError: It cannot be reached, does not exist, or its driver is not installed. The
            message never contains a password.
    """
    if not isinstance(storage, str):
        return storage
    if Path(storage).is_file():
        return JournalStorage(JournalFileBackend(storage))
    url = _parse(storage)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite":
        _check_sqlite(url, shown, create=create)
    try:
        return RDBStorage(
            url.render_as_string(hide_password=False), skip_table_creation=not create
        )
    except (ImportError, NoSuchModuleError) as error:
        extra = _EXTRAS.get(url.get_backend_name())
        hint = f"; pip install 'tftas-optuna[{extra}]'" if extra else ""
        raise UnavailableError(f"storage {shown}: its driver is not installed{hint}") from error
    except (SQLAlchemyError, StorageInternalError) as error:
        if not create and isinstance(error.__cause__ or error, ProgrammingError):
            raise UnavailableError(
                f"storage {shown} holds no studies; make one with `tftas-optuna run`"
            ) from error
        raise UnavailableError(f"storage {shown} cannot be opened: {_reason(error)}") from error
    except RuntimeError as error:
        raise UnavailableError(
            f"storage {shown} cannot be opened: {_first_line(error)}"
        ) from error


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
            f"storage {_shown(storage)} holds no studies: {_reason(error)}"
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
    if Path(storage).is_file():
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


def _reason(error: Exception) -> str:
    origin = getattr(error, "orig", None) or error.__cause__ or error
    origin = getattr(origin, "orig", None) or origin
    return _first_line(origin)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
