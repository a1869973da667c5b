"""Reads the trials of a study from Optuna's own tables, by one plain query for each table.

Optuna makes an object of every row, and every distribution as often as a trial has it; nearly all
of the time of reading a study goes there. What is read here are the same trials, which was
compared for the schemas of :data:`tftas_optuna.storage.bulk.KNOWN_SCHEMAS`; any other is left to
Optuna.
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

# Databases take a limited number of values in one statement.
_MOST = 500
# Rows; all of them together keep Python's garbage collector busy.
_AT_ONCE = 1000


class BulkReadingStorage(ReadingStorage):
    """Optuna's database storage, with trials that are read in bulk."""

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
        """Whether its tables are those of a schema that was compared."""
        return schema_version(self) in KNOWN_SCHEMAS


class _Reading:
    """One reading of trials.

    Args:
        connection: Where to read.
        wanted: Which of the trials.
    """

    def __init__(self, connection: Connection, wanted: ColumnElement[bool]) -> None:
        self._connection = connection
        self._wanted = wanted
        self._tables = trial_tables()

    def trials(self) -> list[FrozenTrial]:
        """Return the trials, in the order of their ids."""
        # First: all that belongs to a trial that is finished by then is there. What comes then
        # may belong to one that began since.
        found = {row.trial_id: _bare(row) for row in self._rows()}
        self._add_params(found)
        self._add_values(found)
        for table, attributes in (
            ("trial_user_attributes", {i: trial.user_attrs for i, trial in found.items()}),
            ("trial_system_attributes", {i: trial.system_attrs for i, trial in found.items()}),
        ):
            for trial_id, key, text in self._details(table, "key", "value_json"):
                if trial_id in attributes:
                    attributes[trial_id][key] = json.loads(text)
        return list(found.values())

    def _add_params(self, found: Mapping[int, FrozenTrial]) -> None:
        distribution_of = lru_cache(maxsize=None)(json_to_distribution)
        columns = ("param_name", "distribution_json", "param_value")
        for trial_id, name, text, value in self._details("trial_params", *columns):
            if (trial := found.get(trial_id)) is not None:
                distribution = trial.distributions[name] = distribution_of(text)
                trial.params[name] = distribution.to_external_repr(value)

    def _add_values(self, found: Mapping[int, FrozenTrial]) -> None:
        value_of, step_of = value_reader(), intermediate_value_reader()
        values: dict[int, dict[int, float]] = {}
        columns = ("objective", "value", "value_type")
        for trial_id, objective, value, kind in self._details("trial_values", *columns):
            values.setdefault(trial_id, {})[objective] = value_of(value, kind)
        for trial_id in values.keys() & found.keys():
            found[trial_id].values = [value for _, value in sorted(values[trial_id].items())]
        columns = ("step", "intermediate_value", "intermediate_value_type")
        for trial_id, step, value, kind in self._details("trial_intermediate_values", *columns):
            if trial_id in found:
                found[trial_id].intermediate_values[step] = step_of(value, kind)

    def _rows(self) -> Sequence[Row[Any]]:
        table = self._tables["trials"]
        rows = sqlalchemy.select(table).where(self._wanted).order_by(table.c.trial_id)
        return self._connection.execute(rows).all()

    def _details(self, name: str, *columns: str) -> Iterator[Any]:
        """Read columns of another table, rows in the order in which they were written."""
        table, trials = self._tables[name], self._tables["trials"]
        rows = (
            sqlalchemy.select(table.c.trial_id, *(table.c[column] for column in columns))
            .join(trials, trials.c.trial_id == table.c.trial_id)
            .where(self._wanted)
            .order_by(*table.primary_key)
        )
        return chain.from_iterable(self._connection.execute(rows).partitions(_AT_ONCE))


def _bare(row: Row[Any]) -> FrozenTrial:
    """Make a trial without what lies in the other tables."""
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
    """Turn a time as it is stored, of UTC, into one of this place."""
    if time is None:
        return None
    return time.replace(tzinfo=datetime.timezone.utc).astimezone().replace(tzinfo=None)
