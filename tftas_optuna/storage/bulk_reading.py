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
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

# Databases take a limited number of values in one statement.
_MOST = 500


class BulkReadingStorage(ReadingStorage):
    """Optuna's database storage, with trials that are read in bulk."""

    def read_trials(self, study_id: int, some: Collection[int], after: int) -> list[FrozenTrial]:
        """Read trials in bulk, if the database is of a known schema; see the base class.

        Raises:
            StorageInternalError: The database cannot be read.
        """
        if len(some) > _MOST or not self._is_known:
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
    def _is_known(self) -> bool:
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
        # First: all that belongs to a trial that is finished by then is there.
        found = {row.trial_id: _bare(row) for row in self._rows()}
        value_of, step_of = value_reader(), intermediate_value_reader()
        values: dict[int, dict[int, float]] = {}
        distribution_of = lru_cache(maxsize=None)(json_to_distribution)
        for trial, name, text, value in self._details(
            found, "trial_params", "param_name", "distribution_json", "param_value"
        ):
            distribution = trial.distributions[name] = distribution_of(text)
            trial.params[name] = distribution.to_external_repr(value)
        for trial, objective, value, kind in self._details(
            found, "trial_values", "objective", "value", "value_type"
        ):
            values.setdefault(trial.number, {})[objective] = value_of(value, kind)
        for trial, step, value, kind in self._details(
            found,
            "trial_intermediate_values",
            "step",
            "intermediate_value",
            "intermediate_value_type",
        ):
            trial.intermediate_values[step] = step_of(value, kind)
        for trial, key, text in self._details(found, "trial_user_attributes", "key", "value_json"):
            trial.user_attrs[key] = json.loads(text)
        for trial, key, text in self._details(
            found, "trial_system_attributes", "key", "value_json"
        ):
            trial.system_attrs[key] = json.loads(text)
        for trial in found.values():
            if trial.number in values:
                trial.values = [value for _, value in sorted(values[trial.number].items())]
        return list(found.values())

    def _rows(self) -> Sequence[Row[Any]]:
        table = self._tables["trials"]
        rows = sqlalchemy.select(table).where(self._wanted).order_by(table.c.trial_id)
        return self._connection.execute(rows).all()

    def _details(
        self, found: dict[int, FrozenTrial], name: str, *columns: str
    ) -> Iterable[tuple[Any, ...]]:
        """Read columns of another table, row by row in the order in which they were written."""
        table, trials = self._tables[name], self._tables["trials"]
        rows = (
            sqlalchemy.select(table.c.trial_id, *(table.c[column] for column in columns))
            .join(trials, trials.c.trial_id == table.c.trial_id)
            .where(self._wanted)
            .order_by(*table.primary_key)
        )
        for trial_id, *details in self._connection.execute(rows):
            # None of a trial that began since.
            if (trial := found.get(trial_id)) is not None:
                yield trial, *details


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
