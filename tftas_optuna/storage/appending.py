"""Writes finished trials to a storage, a whole generation at once."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from tftas_optuna.storage.locks import file_lock
from tftas_optuna.study.place import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection, Table

    from tftas_optuna.study.place import Place

# The tables and columns that a trial is made of, in the schema of Optuna 3 to 5.
_COLUMNS = {
    "studies": {"study_id", "study_name"},
    "trials": {
        "trial_id",
        "number",
        "study_id",
        "state",
        "datetime_start",
        "datetime_complete",
    },
    "trial_values": {"trial_value_id", "trial_id", "objective", "value", "value_type"},
    "trial_params": {"param_id", "trial_id", "param_name", "param_value", "distribution_json"},
    "trial_user_attributes": {"trial_user_attribute_id", "trial_id", "key", "value_json"},
    "trial_system_attributes": {"trial_system_attribute_id", "trial_id", "key", "value_json"},
}

# Others hold the lock for milliseconds at a time.
_LOCK_SECONDS = 10


class Flush(Protocol):
    """Writes trials; all or none where the storage can do that."""

    def __call__(self, trials: Sequence[FrozenTrial], after: int | None = None) -> int | None:
        """Append finished trials with places, in their order.

        Args:
            trials: The trials, at least one.
            after: Number of the trial to append them to; None for the last one, whichever it is.

        Returns:
            The number of the last of them; None, with nothing written, when ``after`` is not the
            study's last trial.
        """


def make_flush(study: Study, storage: BaseStorage, path: Path | None) -> Flush:
    """Choose how to write to a study.

    Optuna adds a trial to a database by some sixty statements, and one commit each. A generation
    goes there in seven statements and one transaction instead, as long as the tables are the ones
    known here; everything else goes through Optuna.

    Args:
        study: The study.
        storage: Its storage, as it was opened.
        path: The file of a SQLite or journal storage.
    """
    if isinstance(storage, RDBStorage):
        tables = _reflect(storage)
        if tables is not None:
            return _BulkFlush(study, storage, tables)
    if path is None:
        return _OptunaFlush(study, contextlib.nullcontext())
    lock = file_lock(path, study.study_name, "write", timeout=_LOCK_SECONDS)
    return _OptunaFlush(study, lock)


def stored_places(study: Study) -> set[Place]:
    """Give the places of all trials that a study holds."""
    places = (place_of(trial) for trial in study.get_trials(deepcopy=False))
    return {place for place in places if place is not None}


def stored_number(study: Study, trial: FrozenTrial) -> int:
    """Give the number under which a study holds a trial, found by its place."""
    place = place_of(trial)
    stored = reversed(study.get_trials(deepcopy=False))
    return next(other.number for other in stored if place_of(other) == place)


class _OptunaFlush:
    """Adds trials one by one.

    Args:
        study: The study.
        lock: Held meanwhile, so that no other search comes between.
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


class _BulkFlush:
    """Inserts trials into the tables of an Optuna database, in one transaction.

    The study's row is locked first, as Optuna does, so that numbers stay in order when several
    searches write.
    """

    def __init__(self, study: Study, storage: RDBStorage, tables: dict[str, Table]) -> None:
        self._engine = storage.engine
        self._tables = tables
        self._study_id = storage.get_study_id_from_name(study.study_name)

    def __call__(self, trials: Sequence[FrozenTrial], after: int | None = None) -> int | None:
        rows: dict[str, list[dict[str, Any]]] = {}
        with self._engine.begin() as connection:
            first = self._next_number(connection)
            if after is not None and first != after + 1:
                return None
            ids = self._insert(connection, trials, first)
            for trial, trial_id in zip(trials, ids, strict=True):
                for name, details in _details(trial).items():
                    rows.setdefault(name, []).extend({"trial_id": trial_id, **d} for d in details)
            for name, some in rows.items():
                if some:
                    connection.execute(self._tables[name].insert(), some)
        return first + len(trials) - 1

    def _next_number(self, connection: Connection) -> int:
        """Lock the study for the rest of the transaction; count its trials."""
        studies, table = self._tables["studies"], self._tables["trials"]
        own = studies.c.study_id == self._study_id
        connection.execute(studies.update().where(own).values(study_name=studies.c.study_name))
        ours = table.c.study_id == self._study_id
        count = sqlalchemy.select(sqlalchemy.func.count()).select_from(table).where(ours)
        number: int = connection.execute(count).scalar_one()
        return number

    def _insert(
        self, connection: Connection, trials: Sequence[FrozenTrial], first: int
    ) -> Sequence[int]:
        """Insert the trials themselves under the numbers from the first on; give their ids."""
        table = self._tables["trials"]
        rows = [
            {
                "study_id": self._study_id,
                "number": first + i,
                "state": trial.state.name,
                "datetime_start": trial.datetime_start,
                "datetime_complete": trial.datetime_complete,
            }
            for i, trial in enumerate(trials)
        ]
        connection.execute(table.insert(), rows)
        new = (
            sqlalchemy.select(table.c.trial_id)
            .where(table.c.study_id == self._study_id, table.c.number >= first)
            .order_by(table.c.number)
        )
        return connection.execute(new).scalars().all()


def _details(trial: FrozenTrial) -> dict[str, list[dict[str, Any]]]:
    """Rows of a finished trial in the other tables, less its id."""
    assert trial.state == TrialState.COMPLETE and trial.values is not None
    return {
        "trial_values": [
            {"objective": i, "value": value, "value_type": "FINITE"}
            for i, value in enumerate(trial.values)
        ],
        "trial_params": [
            {
                "param_name": name,
                "param_value": trial.distributions[name].to_internal_repr(value),
                "distribution_json": distribution_to_json(trial.distributions[name]),
            }
            for name, value in trial.params.items()
        ],
        "trial_user_attributes": _attributes(trial.user_attrs),
        "trial_system_attributes": _attributes(trial.system_attrs),
    }


def _attributes(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]


def _reflect(storage: RDBStorage) -> dict[str, Table] | None:
    """Read the tables from the database; None where they are not the known ones."""
    metadata = sqlalchemy.MetaData()
    try:
        metadata.reflect(storage.engine, only=list(_COLUMNS))
    except SQLAlchemyError:
        return None
    known = all(
        columns <= set(metadata.tables[name].c.keys())
        and all(column.name in columns or column.nullable for column in metadata.tables[name].c)
        for name, columns in _COLUMNS.items()
    )
    return dict(metadata.tables) if known else None
