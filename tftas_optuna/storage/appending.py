"""Appends finished trials to a study, safely beside other searches."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

from optuna.storages import RDBStorage

from tftas_optuna.storage._optuna import engine_of, trial_tables, unwrapped
from tftas_optuna.storage.bulk import KNOWN_SCHEMAS, BulkAppend, schema_version
from tftas_optuna.storage.file_locks import FileLock, lock_path
from tftas_optuna.storage.naming import storage_file
from tftas_optuna.storage.server_locks import ServerLock, has_server_locks
from tftas_optuna.storage.waiting import WAITING, say_if_slow
from tftas_optuna.study.place import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from tftas_optuna.study.place import Place

_LOG = logging.getLogger("tftas_optuna")
# Seconds; other searches hold the lock for milliseconds.
_LOCK_SECONDS = 10


class Append(Protocol):
    """Writes trials: all or none, if the storage can do that."""

    def __call__(self, trials: Sequence[FrozenTrial], after: int | None = None) -> int | None:
        """Append finished trials with places, in their order.

        Args:
            trials: The trials, at least one.
            after: Number that the study's last trial must have; None for any.

        Returns:
            The number of the last appended trial; None, with nothing written, if ``after`` is not
            the study's last trial.
        """


def make_append(study: Study, storage: BaseStorage) -> Append:
    """Return the way to append trials to a study.

    A database of a known schema takes whole generations at once. Anything else goes through
    Optuna, trial by trial, under a lock that all searches of the study share.

    Args:
        study: The study.
        storage: Its storage.
    """
    storage = unwrapped(storage)
    if isinstance(storage, RDBStorage):
        schema = schema_version(storage)
        if schema in KNOWN_SCHEMAS:
            return BulkAppend(study, storage)
        _LOG.warning(
            "the database has Optuna's schema %s, and whole generations are stored only in %s:"
            " trials are stored one by one through Optuna, which is slower; look for a newer"
            " tftas-optuna",
            schema,
            ", ".join(map(str, sorted(KNOWN_SCHEMAS))),
        )
    return OptunaAppend(study, write_lock(study, storage))


def check_writable(study: Study, storage: BaseStorage) -> None:
    """Wait until a study can be written, before long work whose result it is to store.

    Args:
        study: The study.
        storage: Its storage.

    Raises:
        SQLAlchemyError: The study cannot be written to.
    """
    storage = unwrapped(storage)
    if isinstance(storage, RDBStorage):
        table = trial_tables()["studies"]
        this = table.update().where(table.c.study_name == study.study_name)
        with say_if_slow(WAITING), engine_of(storage).begin() as connection:
            connection.execute(this.values(study_name=table.c.study_name))


def stored_places(study: Study) -> set[Place]:
    """Return the places of all trials that a study holds."""
    places = (place_of(trial) for trial in study.get_trials(deepcopy=False))
    return {place for place in places if place is not None}


def stored_number(study: Study, trial: FrozenTrial) -> int:
    """Return the number under which a study holds a trial, found by its place."""
    place = place_of(trial)
    stored = reversed(study.get_trials(deepcopy=False))
    return next(other.number for other in stored if place_of(other) == place)


class OptunaAppend:
    """Adds trials through Optuna, one by one.

    Args:
        study: The study.
        lock: Held while writing, so that no other search writes in between.
    """

    def __init__(self, study: Study, lock: AbstractContextManager[object]) -> None:
        self._study = study
        self._lock = lock

    def __call__(self, trials: Sequence[FrozenTrial], after: int | None = None) -> int | None:
        with self._lock:
            if after is not None and len(self._study.get_trials(deepcopy=False)) != after + 1:
                return None
            self._study.add_trials(trials)
            return stored_number(self._study, trials[-1])


def write_lock(study: Study, storage: BaseStorage) -> AbstractContextManager[object]:
    """Return the short-lived lock for steps that only one search of a study may take at a time.

    Args:
        study: The study.
        storage: Its storage.
    """
    storage = unwrapped(storage)
    path = storage_file(storage)
    if path is not None:
        return FileLock(lock_path(path, study.study_name, "write"), path, timeout=_LOCK_SECONDS)
    if isinstance(storage, RDBStorage) and has_server_locks(engine_of(storage)):
        return ServerLock(engine_of(storage), study.study_name, "write", timeout=_LOCK_SECONDS)
    # Memory, or a proxy, which only one search may use at a time.
    return contextlib.nullcontext()
