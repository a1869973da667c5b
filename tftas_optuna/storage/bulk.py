"""Writes into Optuna's own tables: a whole generation at once, and attributes of finished trials.

Optuna needs some sixty statements to add a trial to a database, with a commit for each. Here a
generation takes seven statements and one commit. Optuna does not write attributes of finished
trials, by which optuna-dashboard sorts. The rows are those that Optuna would write, which was
compared for the schema versions named here and for no others.
"""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from tftas_optuna.storage._optuna import (
    engine_of,
    stored_value,
    trial_tables,
    unwrapped,
    version_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import Connection


class SchemaVersion(NamedTuple):
    """The schema version of a database, as Optuna records it.

    Attributes:
        revision: The revision of its tables.
        number: The version number that Optuna records as well.
    """

    revision: str | None
    number: int | None

    def __str__(self) -> str:
        return f"{self.revision} ({self.number})"


# Optuna 3.2 to 5.0.
KNOWN_SCHEMAS = frozenset({SchemaVersion("v3.2.0.a", 12)})


def schema_version(storage: RDBStorage) -> SchemaVersion:
    """Return the schema version that Optuna recorded in a database; None for what is missing."""
    number = sqlalchemy.select(version_table().c.schema_version)
    revision = sqlalchemy.text("SELECT version_num FROM alembic_version")
    return SchemaVersion(_read(storage, revision), _read(storage, number))


class BulkAppend:
    """Inserts trials into the tables of an Optuna database.

    The study's row is locked first, as Optuna does, so that numbers stay in order when several
    searches write.

    Args:
        study: The study.
        storage: Its storage, of one of :data:`KNOWN_SCHEMAS`.
    """

    def __init__(self, study: Study, storage: RDBStorage) -> None:
        self._engine = engine_of(storage)
        self._tables = trial_tables()
        self._study_id = storage.get_study_id_from_name(study.study_name)

    def __call__(self, trials: Sequence[FrozenTrial], after: int | None = None) -> int | None:
        rows: dict[str, list[dict[str, Any]]] = {}
        with self._engine.begin() as connection:
            first = self._next_number(connection)
            if after is not None and first != after + 1:
                return None
            ids = self._insert(connection, trials, first)
            texts = _texts(trials)
            for trial, trial_id in zip(trials, ids, strict=True):
                for name, details in _details(trial, texts).items():
                    rows.setdefault(name, []).extend({"trial_id": trial_id, **d} for d in details)
            for name, table_rows in rows.items():
                if table_rows:
                    connection.execute(self._tables[name].insert(), table_rows)
        return first + len(trials) - 1

    def _next_number(self, connection: Connection) -> int:
        """Lock the study for the rest of the transaction, and return its number of trials."""
        studies, table = self._tables["studies"], self._tables["trials"]
        this = studies.c.study_id == self._study_id
        connection.execute(studies.update().where(this).values(study_name=studies.c.study_name))
        count = sqlalchemy.select(sqlalchemy.func.count()).select_from(table)
        number: int = connection.execute(
            count.where(table.c.study_id == self._study_id)
        ).scalar_one()
        return number

    def _insert(
        self, connection: Connection, trials: Sequence[FrozenTrial], first: int
    ) -> Sequence[int]:
        """Insert the trials, numbered from ``first``, without their details; return their ids."""
        table = self._tables["trials"]
        rows = [
            {
                "study_id": self._study_id,
                "number": first + i,
                "state": trial.state,
                "datetime_start": _utc(trial.datetime_start),
                "datetime_complete": _utc(trial.datetime_complete),
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


def annotate_finished(
    storage: BaseStorage, study_name: str, trial: int, name: str, value: float | str | None
) -> bool:
    """Set a user attribute of a finished trial, which Optuna itself refuses.

    A program that has read the trial already, such as a running dashboard, does not see it.

    Args:
        storage: The storage.
        study_name: The study.
        trial: Number of the trial.
        name: Name of the attribute.
        value: Its value; None to remove the attribute.

    Returns:
        Whether it was set, which only works in a database of a known schema.
    """
    storage = unwrapped(storage)
    if not isinstance(storage, RDBStorage) or schema_version(storage) not in KNOWN_SCHEMAS:
        return False
    study_id = storage.get_study_id_from_name(study_name)
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, trial)
    table = trial_tables()["trial_user_attributes"]
    this = sqlalchemy.and_(table.c.trial_id == trial_id, table.c.key == name)
    with engine_of(storage).begin() as connection:
        connection.execute(table.delete().where(this))
        if value is not None:
            row = {"trial_id": trial_id, "key": name, "value_json": json.dumps(value)}
            connection.execute(table.insert(), [row])
    return True


def _read(storage: RDBStorage, statement: sqlalchemy.Executable) -> Any:
    try:
        with engine_of(storage).connect() as connection:
            return connection.execute(statement).scalar()
    except SQLAlchemyError:
        return None


def _texts(trials: Sequence[FrozenTrial]) -> dict[int, str]:
    """Return the distributions as JSON, by their ``id``; trials of a search share them."""
    distributions: dict[int, BaseDistribution] = {
        id(distribution): distribution
        for trial in trials
        for distribution in trial.distributions.values()
    }
    return {key: distribution_to_json(value) for key, value in distributions.items()}


def _details(trial: FrozenTrial, texts: dict[int, str]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a finished trial in the other tables, without its id."""
    assert trial.state.is_finished()
    values = []
    # A failed trial has no values.
    for i, value in enumerate(trial.values or ()):
        number, kind = stored_value(value)
        values.append({"objective": i, "value": number, "value_type": kind})
    return {
        "trial_values": values,
        "trial_params": [
            {
                "param_name": name,
                "param_value": trial.distributions[name].to_internal_repr(value),
                "distribution_json": texts[id(trial.distributions[name])],
            }
            for name, value in trial.params.items()
        ],
        "trial_user_attributes": _attributes(trial.user_attrs),
        "trial_system_attributes": _attributes(trial.system_attrs),
    }


def _utc(time: datetime.datetime | None) -> datetime.datetime | None:
    """Convert a local time to UTC, as Optuna stores it."""
    if time is None:
        return None
    return time.astimezone(datetime.timezone.utc).replace(tzinfo=None)


def _attributes(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attributes.items()]
