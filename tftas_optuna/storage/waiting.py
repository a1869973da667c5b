"""Announces waits for a storage, and tries again what may pass."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError, SQLAlchemyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LOG = logging.getLogger("tftas_optuna")
_PATIENCE = 2.0
_KEEPING = 600.0
_PAUSE = 5.0
WAITING = "waiting for the storage, which another program may have locked"


@contextlib.contextmanager
def say_if_slow(message: str) -> Iterator[None]:
    """Log a message where what is done meanwhile takes longer than two seconds.

    Each use starts a thread: it is for writing whole generations, not for single statements.
    """
    timer = threading.Timer(_PATIENCE, _LOG.info, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


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
            with say_if_slow(WAITING):
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
