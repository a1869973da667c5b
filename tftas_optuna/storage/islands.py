"""Gives every search of a study a number of its own, for as long as it runs.

The lock behind a number is held by a connection to the database server, or is a file lock for a
file storage, so it is free again the moment its process is gone, however it went.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import sqlalchemy
from filelock import Timeout
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage.locks import digest, file_lock

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.storages import BaseStorage
    from sqlalchemy import Connection, Engine

_MOST = 1000


class Claim(Protocol):
    """The number of a search within its study.

    Attributes:
        island: The number; 0 for a search that has the study to itself.
    """

    island: int

    def renew(self) -> None:
        """Make sure the number is still ours, after a lost connection as well.

        Raises:
            UnavailableError: Another search has taken it meanwhile.
        """

    def release(self) -> None:
        """Give the number back."""


def claim_island(storage: BaseStorage | None, study_name: str, path: Path | None) -> Claim:
    """Take the lowest number that no other search of the study holds.

    Args:
        storage: The storage; None for memory.
        study_name: The study.
        path: The file of a SQLite or journal storage.
    """
    if path is not None:
        return _lowest(lambda island: _FileClaim(path, study_name, island))
    if isinstance(storage, RDBStorage) and storage.engine.dialect.name in _TRY_LOCK:
        engine = storage.engine
        return _lowest(lambda island: _ServerClaim(engine, study_name, island))
    return _NoClaim()


class _NoClaim:
    """A storage without locks: memory, or a proxy that one search uses at a time."""

    island = 0

    def renew(self) -> None: ...

    def release(self) -> None: ...


class _FileClaim:
    def __init__(self, path: Path, study_name: str, island: int) -> None:
        self.island = island
        self._lock = file_lock(path, study_name, str(island), timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise _TakenError from None

    def renew(self) -> None: ...

    def release(self) -> None:
        self._lock.release()


# Both locks belong to the session of one connection and end with it.
_TRY_LOCK = {
    "postgresql": "SELECT pg_try_advisory_lock(('x' || :name)::bit(64)::bigint)",
    "mysql": "SELECT GET_LOCK(:name, 0)",
    "mariadb": "SELECT GET_LOCK(:name, 0)",
}


class _ServerClaim:
    def __init__(self, engine: Engine, study_name: str, island: int) -> None:
        self.island = island
        self._engine = engine
        self._name = digest(f"{engine.url.database}/{study_name}/{island}")[:16]
        self._connection = self._lock()

    def _lock(self) -> Connection:
        # The connection is the lock: it must not return to the pool, nor come from it.
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        statement = sqlalchemy.text(_TRY_LOCK[self._engine.dialect.name])
        if connection.execute(statement, {"name": self._name}).scalar_one() in (1, True):
            return connection
        connection.close()
        raise _TakenError

    def renew(self) -> None:
        try:
            self._connection.execute(sqlalchemy.text("SELECT 1"))
        except SQLAlchemyError:
            self.release()
            try:
                self._connection = self._lock()
            except _TakenError:
                raise UnavailableError(
                    "while the database was away another search took this one's place in the"
                    " study; run the same command again to go on beside it"
                ) from None

    def release(self) -> None:
        # A connection that is lost already cannot be closed properly.
        with contextlib.suppress(SQLAlchemyError):
            self._connection.close()


class _TakenError(Exception):
    """Another search holds this number."""


def _lowest(take: _Take) -> Claim:
    for island in range(_MOST):
        try:
            return take(island)
        except _TakenError:
            continue
    raise UnavailableError(f"{_MOST} searches work on this study already")


class _Take(Protocol):
    def __call__(self, island: int) -> Claim: ...
