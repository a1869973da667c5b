"""The private names of Optuna that this room uses."""

from __future__ import annotations

import functools
import importlib
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import json_to_distribution
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container

    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine, Table

_TRIED = "5.0"
_MISSING = object()
# The models of the tables that hold a trial.
_MODELS = (
    "StudyModel",
    "TrialModel",
    "TrialValueModel",
    "TrialParamModel",
    "TrialUserAttributeModel",
    "TrialSystemAttributeModel",
    "TrialIntermediateValueModel",
)


class ReadingStorage(RDBStorage):
    """A database whose trials are read by :meth:`read_trials`."""

    def _get_trials(
        self,
        study_id: int,
        states: Container[Any] | None,
        included_trial_ids: Collection[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        old = {number for number in included_trial_ids if number <= trial_id_greater_than}
        if states is None and (trials := self.read_trials(study_id, old, trial_id_greater_than)):
            return trials
        return super()._get_trials(
            study_id, states, set(included_trial_ids), trial_id_greater_than
        )

    @abstractmethod
    def read_trials(self, study_id: int, some: Collection[int], after: int) -> list[FrozenTrial]:
        """Read trials of a study in the order of their ids.

        Args:
            study_id: The study.
            some: Ids of trials to read.
            after: Trials with larger ids are all read as well.

        Returns:
            The trials; empty to let Optuna read them.
        """


class SharingJournal(JournalStorage):
    """A journal whose trials share equal distributions.

    Optuna creates them again for every trial, which takes most of the time of reading.
    """

    def _sync_with_backend(self) -> None:
        replay = _get(self, "_replay_result", "JournalStorage")
        if "_apply_create_trial" not in vars(replay):
            replay._apply_create_trial = _SharingCreation(replay)
        super()._sync_with_backend()


class _SharingCreation:
    """Replaces the method by which the replay of a journal creates trials.

    Args:
        replay: The replay.
    """

    def __init__(self, replay: Any) -> None:
        self._create = _get(replay, "_apply_create_trial", "JournalStorageReplayResult")
        self._trials: dict[int, FrozenTrial] = _get(
            replay, "_trials", "JournalStorageReplayResult"
        )
        self._distribution = functools.lru_cache(maxsize=None)(json_to_distribution)

    def __call__(self, log: dict[str, Any]) -> None:
        before = len(self._trials)
        self._create({**log, "distributions": {}, "params": {}})
        if len(self._trials) == before:
            return  # Its study was deleted.
        trial = self._trials[before]
        texts = log.get("distributions", {})
        trial.distributions = {name: self._distribution(text) for name, text in texts.items()}
        trial.params = {
            name: trial.distributions[name].to_external_repr(value)
            for name, value in log.get("params", {}).items()
        }


def is_tried_release() -> bool:
    """Return whether this is the Optuna whose schema was compared; later ones may differ."""
    return optuna.__version__.startswith(f"{_TRIED}.")


def unwrapped(storage: BaseStorage) -> BaseStorage:
    """Return a storage without the cache that Optuna puts in front of a database."""
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
    """Return the file of a journal; None if it is stored elsewhere, such as in Redis."""
    backend = _get(storage, "_backend", "JournalStorage")
    if not isinstance(backend, JournalFileBackend):
        return None
    return Path(_get(backend, "_file_path", "JournalFileBackend"))


def journal_lock(storage: JournalStorage) -> Any:
    """Return the lock of a journal file for appending, with ``acquire`` and ``release``."""
    backend = _get(storage, "_backend", "JournalStorage")
    return _get(backend, "_lock", "JournalFileBackend")


def proxy_address(storage: GrpcStorageProxy) -> str:
    """Return the ``host:port`` that a storage proxy connects to."""
    host = _get(storage, "_host", "GrpcStorageProxy")
    return f"{host}:{_get(storage, '_port', 'GrpcStorageProxy')}"


def trial_tables() -> dict[str, Table]:
    """Return the tables that a finished trial is written to, by their names in the database."""
    models = _models()
    tables = [_get(_get(models, name, "models"), "__table__", name) for name in _MODELS]
    return {table.name: table for table in tables}


def version_table() -> Table:
    """Return the table in which Optuna records the version of its schema."""
    model = _get(_models(), "VersionInfoModel", "models")
    table: Table = _get(model, "__table__", "VersionInfoModel")
    return table


def stored_value(value: float) -> tuple[float | None, Any]:
    """Return an objective's value as Optuna stores it: a number and its kind."""
    model = _get(_models(), "TrialValueModel", "models")
    stored: tuple[float | None, Any] = _get(model, "value_to_stored_repr", "TrialValueModel")(
        value
    )
    return stored


def value_reader() -> Callable[[float | None, Any], float]:
    """Return the function from a stored objective value and its kind to a number."""
    return _reader("TrialValueModel", "stored_repr_to_value")


def intermediate_value_reader() -> Callable[[float | None, Any], float]:
    """Return the function from a stored intermediate value and its kind to a number."""
    return _reader("TrialIntermediateValueModel", "stored_repr_to_intermediate_value")


def _reader(model: str, name: str) -> Callable[[float | None, Any], float]:
    reader: Callable[[float | None, Any], float] = _get(
        _get(_models(), model, "models"), name, model
    )
    return reader


def _models() -> Any:
    try:
        return importlib.import_module("optuna.storages._rdb.models")
    except ImportError:
        raise _gone("optuna.storages._rdb.models") from None


def _get(owner: Any, name: str, shown: str) -> Any:
    value = getattr(owner, name, _MISSING)
    if value is _MISSING:
        raise _gone(f"{shown}.{name}")
    return value


def _gone(name: str) -> UnavailableError:
    return UnavailableError(
        f"Optuna {optuna.__version__} no longer has {name}; tftas-optuna was tried with {_TRIED}:"
        f" install that (pip install 'optuna=={_TRIED}.*'), or a newer tftas-optuna"
    )
