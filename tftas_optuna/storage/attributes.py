"""Adds user attributes to finished trials, where a storage can: optuna-dashboard sorts by them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import sqlalchemy
from optuna.storages import RDBStorage

from tftas_optuna.storage._optuna import engine_of, trial_tables, unwrapped
from tftas_optuna.storage.bulk import KNOWN_SCHEMAS, schema_version

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def annotate_finished(
    storage: BaseStorage, study_name: str, trial: int, name: str, value: float | str | None
) -> bool:
    """Set a user attribute of a finished trial, which Optuna itself refuses.

    Whoever has read the trial already, such as a dashboard that is running, keeps it as it was.

    Args:
        storage: The storage.
        study_name: The study.
        trial: Number of the trial.
        name: Name of the attribute.
        value: Its value; None to take the attribute away.

    Returns:
        Whether it is set: only a database whose tables are known takes it.
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
