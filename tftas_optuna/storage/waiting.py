"""Announces waits for a storage, and tries again what may pass."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from sqlalchemy import event
from sqlalchemy.exc import OperationalError, SQLAlchemyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

_LOG = logging.getLogger("tftas_optuna")
_PATIENCE = 2.0
_KEEPING = 600.0
_PAUSE = 5.0
_KEY = "tftas-optuna: waits"


# Whether this thread announces a wait already.
_SAID = threading.local()


@contextlib.contextmanager
def say_if_slow(message: str) -> Iterator[None]:
    """Log a message where what is done meanwhile takes longer than two seconds.

    Nested calls log nothing.
    """
    if getattr(_SAID, "busy", False):
        yield
        return
    timer = threading.Timer(_PATIENCE, _LOG.info, (message,))
    timer.daemon = True
    timer.start()
    _SAID.busy = True
    try:
        yield
    finally:
        _SAID.busy = False
        timer.cancel()


def say_waits(engine: Engine, message: str) -> None:
    """Log a message whenever a database takes longer than two seconds for a statement."""

    def begin(connection: Connection, *_: object) -> None:
        wait = contextlib.ExitStack()
        wait.enter_context(say_if_slow(message))
        connection.info[_KEY] = wait

    def end(connection: Connection | None, *_: object) -> None:
        wait = None if connection is None else connection.info.pop(_KEY, None)
        if wait is not None:
            wait.close()

    event.listen(engine, "before_cursor_execute", begin)
    event.listen(engine, "after_cursor_execute", end)
    event.listen(engine, "handle_error", lambda context: end(context.connection))


def keep(write: Callable[[], None]) -> None:
    """Write what took long to compute; try again for minutes while the storage fails.

    Args:
        write: Writes it, as often as it is called.

    Raises:
        Exception: What the storage says in the end.
    """
    deadline = time.monotonic() + _KEEPING
    while True:
        try:
            return write()
        except (StorageInternalError, SQLAlchemyError, TimeoutError) as error:
            if not _may_pass(error) or time.monotonic() > deadline:
                raise
            _LOG.warning("the storage does not answer; what was scored waits for it")
            time.sleep(_PAUSE)


def _may_pass(error: BaseException) -> bool:
    origin = error.__cause__ if isinstance(error, StorageInternalError) else error
    busy = isinstance(origin, OperationalError) and "readonly" not in str(origin)
    return busy or isinstance(origin, TimeoutError)
