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
from optuna.distributions import distribution_to_json
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
    from collections.abc import Mapping, Sequence

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


# The columns of the tables with most of the rows.
_PARAMS = ("trial_id", "param_name", "param_value", "distribution_json")
_ATTRIBUTES = ("trial_id", "key", "value_json")

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
        with self._engine.begin() as connection:
            first = self._next_number(connection)
            if after is not None and first != after + 1:
                return None
            ids = self._insert(connection, trials, first)
            stored = dict(zip(ids, trials, strict=True))
            if values := _values(stored):
                connection.execute(self._tables["trial_values"].insert(), values)
            self._insert_plain(connection, "trial_params", _PARAMS, _params(stored))
            for name, attributes in (
                ("trial_user_attributes", {i: trial.user_attrs for i, trial in stored.items()}),
                (
                    "trial_system_attributes",
                    {i: trial.system_attrs for i, trial in stored.items()},
                ),
            ):
                self._insert_plain(connection, name, _ATTRIBUTES, _attributes(attributes))
        return first + len(trials) - 1

    def _insert_plain(
        self,
        connection: Connection,
        name: str,
        columns: Sequence[str],
        rows: Sequence[tuple[Any, ...]],
    ) -> None:
        """Insert rows of numbers and strings, which SQLAlchemy need not convert one by one."""
        if not rows:
            return
        # Inline: the ids of the rows are not asked for.
        insert = self._tables[name].insert().inline()
        statement = insert.compile(dialect=self._engine.dialect, column_keys=list(columns))
        if statement.positional:
            assert statement.positiontup == list(columns)
            connection.exec_driver_sql(str(statement), list(rows))
        else:
            named = [dict(zip(columns, row, strict=True)) for row in rows]
            connection.exec_driver_sql(str(statement), named)

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


def _values(trials: Mapping[int, FrozenTrial]) -> list[dict[str, Any]]:
    """Return the rows of the objectives of trials by id; a failed trial has none."""
    rows = []
    for trial_id, trial in trials.items():
        for i, value in enumerate(trial.values or ()):
            number, kind = stored_value(value)
            row = {"trial_id": trial_id, "objective": i, "value": number, "value_type": kind}
            rows.append(row)
    return rows


def _params(trials: Mapping[int, FrozenTrial]) -> list[tuple[int, str, float, str]]:
    """Return the rows of the parameters of trials by id."""
    # The trials of a search share their distributions.
    texts: dict[int, str] = {}
    rows = []
    for trial_id, trial in trials.items():
        for name, value in trial.params.items():
            distribution = trial.distributions[name]
            text = texts.get(id(distribution))
            if text is None:
                text = texts[id(distribution)] = distribution_to_json(distribution)
            rows.append((trial_id, name, distribution.to_internal_repr(value), text))
    return rows


def _utc(time: datetime.datetime | None) -> datetime.datetime | None:
    """Convert a local time to UTC, as Optuna stores it."""
    if time is None:
        return None
    return time.astimezone(datetime.timezone.utc).replace(tzinfo=None)


def _attributes(attributes: Mapping[int, Mapping[str, Any]]) -> list[tuple[int, str, str]]:
    """Return the rows of the attributes of trials by id."""
    return [
        (trial_id, key, json.dumps(value))
        for trial_id, of_trial in attributes.items()
        for key, value in of_trial.items()
    ]
