"""Says for what somebody waits."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = logging.getLogger("tftas_optuna")
_PATIENCE = 2.0


@contextlib.contextmanager
def say_if_slow(message: str) -> Iterator[None]:
    """Log a message where what is done meanwhile takes longer than two seconds."""
    timer = threading.Timer(_PATIENCE, _LOG.info, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
