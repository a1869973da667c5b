"""Announces waits for a storage, and retries after passing failures."""

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
    """Log a message if the body takes longer than two seconds.

    Each use starts a thread, so use it for whole generations, not for single statements.
    """
    timer = threading.Timer(_PATIENCE, _LOG.info, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def keep(write: Callable[[], None]) -> None:
    """Write results that took long to compute; retry for minutes while the storage fails.

    Args:
        write: Writes the results; it may be called several times.

    Raises:
        Exception: The last error of the storage.
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
