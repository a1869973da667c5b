"""Every name of Optuna that this room uses and that Optuna does not promise to keep."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from sqlalchemy import Engine, Table

_TRIED = "5.0"
_MISSING = object()
# The models of everything that a finished trial is made of.
_MODELS = (
    "StudyModel",
    "TrialModel",
    "TrialValueModel",
    "TrialParamModel",
    "TrialUserAttributeModel",
    "TrialSystemAttributeModel",
)


def unwrapped(storage: BaseStorage) -> BaseStorage:
    """Return the storage behind the cache that Optuna puts before a database."""
    cached = _get(optuna.storages, "_CachedStorage", "optuna.storages")
    if not isinstance(storage, cached):
        return storage
    backend: BaseStorage = _get(storage, "_backend", "_CachedStorage")
    return backend


def engine_of(storage: RDBStorage) -> Engine:
    """Return the engine of a database storage."""
    engine: Engine = _get(storage, "engine", "RDBStorage")
    return engine


def journal_path(storage: JournalStorage) -> Path | None:
    """Return the file of a journal; None for one that is kept elsewhere, such as in Redis."""
    backend = _get(storage, "_backend", "JournalStorage")
    if not isinstance(backend, JournalFileBackend):
        return None
    return Path(_get(backend, "_file_path", "JournalFileBackend"))


def journal_lock(storage: JournalStorage) -> Any:
    """Return the lock that a journal on a file takes to append; it has acquire and release."""
    backend = _get(storage, "_backend", "JournalStorage")
    return _get(backend, "_lock", "JournalFileBackend")


def proxy_address(storage: GrpcStorageProxy) -> str:
    """Return the ``host:port`` that a storage proxy connects to."""
    host = _get(storage, "_host", "GrpcStorageProxy")
    return f"{host}:{_get(storage, '_port', 'GrpcStorageProxy')}"


def trial_tables() -> dict[str, Table]:
    """Return the tables that a finished trial is written to, by their names in the database."""
    models = _models()
    found = [_get(_get(models, name, "models"), "__table__", name) for name in _MODELS]
    return {table.name: table for table in found}


def version_table() -> Table:
    """Return the table in which Optuna records the version of its schema."""
    model = _get(_models(), "VersionInfoModel", "models")
    table: Table = _get(model, "__table__", "VersionInfoModel")
    return table


def stored_value(value: float) -> tuple[float | None, Any]:
    """Return an objective's value as Optuna stores it: a number, and the kind of it."""
    model = _get(_models(), "TrialValueModel", "models")
    stored: tuple[float | None, Any] = _get(model, "value_to_stored_repr", "TrialValueModel")(
        value
    )
    return stored


def _models() -> Any:
    try:
        return importlib.import_module("optuna.storages._rdb.models")
    except ImportError:
        raise _gone("optuna.storages._rdb.models") from None


def _get(owner: Any, name: str, shown: str) -> Any:
    found = getattr(owner, name, _MISSING)
    if found is _MISSING:
        raise _gone(f"{shown}.{name}")
    return found


def _gone(name: str) -> UnavailableError:
    return UnavailableError(
        f"Optuna {optuna.__version__} no longer has {name}; tftas-optuna was tried with {_TRIED}:"
        f" install that (pip install 'optuna=={_TRIED}.*'), or a newer tftas-optuna"
    )
