"""Ctrl-C and SIGTERM, held back until a search reaches a safe point."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Self


class Interrupts:
    """Catches SIGINT and SIGTERM; use as a context manager.

    A signal takes effect at the next call of :meth:`check`. Before the first call, and if a second
    signal comes, it takes effect at once.

    Attributes:
        exit_code: The exit code for the signal that came: 130 or 143.
    """

    def __init__(self) -> None:
        self.exit_code = 130
        self._checked = False
        self._pending = False

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise :class:`KeyboardInterrupt` if a signal has come."""
        self._checked = True
        if self._pending:
            self._pending, self._checked = False, False
            raise KeyboardInterrupt

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.exit_code = 128 + number
        if self._pending or not self._checked:
            raise KeyboardInterrupt
        self._pending = True
