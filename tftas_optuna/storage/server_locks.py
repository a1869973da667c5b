"""Locks between searches that use the same database server.

A lock belongs to the session of one connection and ends with it, so it is free as soon as its
process ends, however it ends.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import sqlalchemy
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from tftas_optuna.storage.file_locks import digest

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_KEY = "('x' || :name)::bit(64)::bigint"
_GET_LOCK = "SELECT GET_LOCK(:name, :timeout)"
_TRY = {
    "postgresql": f"SELECT pg_try_advisory_lock({_KEY})",
    "mysql": _GET_LOCK,
    "mariadb": _GET_LOCK,
}
_WAIT = {
    "postgresql": f"SELECT true FROM (SELECT pg_advisory_lock({_KEY})) AS waited",
    "mysql": _GET_LOCK,
    "mariadb": _GET_LOCK,
}
# PostgreSQL's lock_not_available.
_TOO_LATE = "55P03"


class ServerLock:
    """A lock on a name within a database, with one holder at a time.

    Args:
        engine: The engine of the database.
        study_name: A study in it.
        purpose: What is locked.
        timeout: Seconds to wait for another holder.
    """

    def __init__(self, engine: Engine, study_name: str, purpose: str, *, timeout: int) -> None:
        self._engine = engine
        self._name = digest(f"{engine.url.database}/{study_name}/{purpose}")[:16]
        self._timeout = timeout
        self._connection: Connection | None = None

    def __enter__(self) -> ServerLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Wait for the lock, and take it.

        Raises:
            TimeoutError: Another holder keeps it for too long.
            SQLAlchemyError: The server does not answer.
        """
        # The lock lives as long as its connection, which must not return to the pool.
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        try:
            if not self._lock(connection):
                raise TimeoutError("another search holds the lock of the study all the time")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def is_held(self) -> bool:
        """Return whether the connection, and with it the lock, is still alive."""
        if self._connection is None:
            return False
        try:
            self._connection.execute(sqlalchemy.text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def release(self) -> None:
        """Free the lock, if it is held."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # A lost connection cannot be closed properly.
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    def _lock(self, connection: Connection) -> bool:
        dialect = self._engine.dialect.name
        values: dict[str, object] = {"name": self._name}
        if dialect != "postgresql":
            values["timeout"] = self._timeout
        elif self._timeout:
            connection.execute(sqlalchemy.text(f"SET lock_timeout = '{self._timeout}s'"))
        statement = (_WAIT if self._timeout else _TRY)[dialect]
        try:
            taken = connection.execute(sqlalchemy.text(statement), values).scalar_one()
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", getattr(error.orig, "pgcode", None)) == _TOO_LATE:
                return False
            raise
        return taken in (1, True)


def has_server_locks(engine: Engine) -> bool:
    """Return whether a database has locks of this kind."""
    return engine.dialect.name in _TRY
