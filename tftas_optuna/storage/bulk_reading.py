"""Reads the trials of a study from Optuna's own tables, with one plain query for each table.

Optuna creates an object for every row and a distribution for every parameter of a trial, which
takes nearly all of the time of reading a study. The trials read here are the same, which was
compared for the schemas of :data:`tftas_optuna.storage.bulk.KNOWN_SCHEMAS`; Optuna reads any
other.
"""

from __future__ import annotations

import datetime
import json
from functools import cached_property, lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import sqlalchemy
from optuna.distributions import json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from tftas_optuna.storage._optuna import (
    ReadingStorage,
    engine_of,
    intermediate_value_reader,
    trial_tables,
    value_reader,
)
from tftas_optuna.storage.bulk import KNOWN_SCHEMAS, schema_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

# Databases limit the number of values in one statement.
_MOST = 500
# Rows; fetching all at once keeps Python's garbage collector busy.
_AT_ONCE = 1000


class BulkReadingStorage(ReadingStorage):
    """Optuna's database storage, but reading trials in bulk."""

    def read_trials(self, study_id: int, some: Collection[int], after: int) -> list[FrozenTrial]:
        """Read trials in bulk, if the database is of a known schema; see the base class.

        Raises:
            StorageInternalError: The database cannot be read.
        """
        if len(some) > _MOST or not self.is_known:
            return []
        column = trial_tables()["trials"].c
        ids = column.trial_id > after
        if some:
            ids |= column.trial_id.in_(sorted(some))
        try:
            with engine_of(self).connect() as connection:
                return _Reading(connection, (column.study_id == study_id) & ids).trials()
        except SQLAlchemyError as error:
            raise StorageInternalError(f"the trials cannot be read: {error}") from error

    @cached_property
    def is_known(self) -> bool:
        """Whether its schema was compared."""
        return schema_version(self) in KNOWN_SCHEMAS


class _Reading:
    """Reads trials once.

    Args:
        connection: A connection to the database.
        condition: Condition for the rows of trials.
    """

    def __init__(self, connection: Connection, condition: ColumnElement[bool]) -> None:
        self._connection = connection
        self._condition = condition
        self._tables = trial_tables()

    def trials(self) -> list[FrozenTrial]:
        """Return the trials, in the order of their ids."""
        # Trials come first, so that those that have finished are read completely. Other tables
        # may then have rows of trials that began later.
        trials = {row.trial_id: _bare(row) for row in self._rows()}
        self._add_params(trials)
        self._add_values(trials)
        for table, attributes in (
            ("trial_user_attributes", {i: trial.user_attrs for i, trial in trials.items()}),
            ("trial_system_attributes", {i: trial.system_attrs for i, trial in trials.items()}),
        ):
            for trial_id, key, text in self._details(table, "key", "value_json"):
                if trial_id in attributes:
                    attributes[trial_id][key] = json.loads(text)
        return list(trials.values())

    def _add_params(self, trials: Mapping[int, FrozenTrial]) -> None:
        distribution_of = lru_cache(maxsize=None)(json_to_distribution)
        columns = ("param_name", "distribution_json", "param_value")
        for trial_id, name, text, value in self._details("trial_params", *columns):
            if (trial := trials.get(trial_id)) is not None:
                distribution = trial.distributions[name] = distribution_of(text)
                trial.params[name] = distribution.to_external_repr(value)

    def _add_values(self, trials: Mapping[int, FrozenTrial]) -> None:
        value_of, step_of = value_reader(), intermediate_value_reader()
        values: dict[int, dict[int, float]] = {}
        columns = ("objective", "value", "value_type")
        for trial_id, objective, value, kind in self._details("trial_values", *columns):
            values.setdefault(trial_id, {})[objective] = value_of(value, kind)
        for trial_id in values.keys() & trials.keys():
            trials[trial_id].values = [value for _, value in sorted(values[trial_id].items())]
        columns = ("step", "intermediate_value", "intermediate_value_type")
        for trial_id, step, value, kind in self._details("trial_intermediate_values", *columns):
            if trial_id in trials:
                trials[trial_id].intermediate_values[step] = step_of(value, kind)

    def _rows(self) -> Sequence[Row[Any]]:
        table = self._tables["trials"]
        rows = sqlalchemy.select(table).where(self._condition).order_by(table.c.trial_id)
        return self._connection.execute(rows).all()

    def _details(self, name: str, *columns: str) -> Iterator[Any]:
        """Return columns of another table, in the order in which its rows were written."""
        table, trials = self._tables[name], self._tables["trials"]
        rows = (
            sqlalchemy.select(table.c.trial_id, *(table.c[column] for column in columns))
            .join(trials, trials.c.trial_id == table.c.trial_id)
            .where(self._condition)
            .order_by(*table.primary_key)
        )
        return chain.from_iterable(self._connection.execute(rows).partitions(_AT_ONCE))


def _bare(row: Row[Any]) -> FrozenTrial:
    """Return a trial without what the other tables hold."""
    return FrozenTrial(
        number=row.number,
        trial_id=row.trial_id,
        state=row.state,
        value=None,
        datetime_start=_local(row.datetime_start),
        datetime_complete=_local(row.datetime_complete),
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _local(time: datetime.datetime | None) -> datetime.datetime | None:
    """Convert a stored time, which is in UTC, to local time."""
    if time is None:
        return None
    return time.replace(tzinfo=datetime.timezone.utc).astimezone().replace(tzinfo=None)
