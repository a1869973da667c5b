"""Renames and deletes studies that no search works on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.storage._optuna import engine_of, trial_tables, unwrapped
from tftas_optuna.storage.bulk import KNOWN_SCHEMAS, schema_version
from tftas_optuna.storage.islands import check_unsearched, claim_island
from tftas_optuna.storage.opening import reason
from tftas_optuna.storage.waiting import WAITING, say_if_slow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import BaseStorage

# Characters; the limit of Optuna's tables.
LONGEST_NAME = 512


def delete_study(storage: BaseStorage, study_name: str) -> None:
    """Delete a study with all its trials.

    Args:
        storage: The storage.
        study_name: An existing study.

    Raises:
        UnavailableError: A search works on it.
    """
    with _without_searches(storage, study_name):
        optuna.delete_study(study_name=study_name, storage=storage)


def rename_study(storage: BaseStorage, study_name: str, new_name: str) -> None:
    """Rename a study, all or nothing; its contents stay the same.

    Optuna can only copy studies, which loses the notes of trials and leaves a partial copy if it
    is interrupted. In a database the name is stored in one row, which is updated here.

    Args:
        storage: The storage.
        study_name: An existing study.
        new_name: Its new name.

    Raises:
        TftasError: The new name is not valid.
        UnavailableError: Another study has this name, a search works on this study, or the
            storage is not a database of a known schema.
    """
    if not new_name.strip() or not new_name.isprintable() or len(new_name) > LONGEST_NAME:
        raise TftasError(
            f"new name {new_name!r} is not valid; give 1 to {LONGEST_NAME} printable characters"
        )
    if new_name in optuna.get_all_study_names(storage):
        raise _taken(new_name)
    backend = unwrapped(storage)
    if not isinstance(backend, RDBStorage) or schema_version(backend) not in KNOWN_SCHEMAS:
        raise UnavailableError(
            "studies are renamed in SQLite, PostgreSQL and MySQL databases with the tables of"
            " Optuna 3.2 to 5.0 alone; Optuna can only copy others, without the notes of their"
            " trials: optuna.copy_study does it"
        )
    with _without_searches(storage, new_name), _without_searches(storage, study_name):
        table = trial_tables()["studies"]
        statement = table.update().where(table.c.study_name == study_name)
        try:
            with engine_of(backend).begin() as connection:
                connection.execute(statement.values(study_name=new_name))
        except IntegrityError as error:
            raise _taken(new_name) from error


def _taken(name: str) -> UnavailableError:
    return UnavailableError(f"study {name!r} exists already; give another name")


@contextlib.contextmanager
def _without_searches(storage: BaseStorage, study_name: str) -> Iterator[None]:
    """Hold a number of a study's searches, after checking that no search works on it."""
    claim = claim_island(storage, study_name)
    try:
        check_unsearched(storage, study_name, claim)
        with say_if_slow(WAITING):
            yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise UnavailableError(
            f"study {study_name!r} cannot be changed: {reason(error)}"
        ) from error
    finally:
        claim.release()
