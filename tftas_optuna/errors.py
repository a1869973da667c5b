"""Errors whose message is meant for the person at the terminal."""

from __future__ import annotations


class TftasError(ValueError):
    """Bad input, told in one line: what was given, what is allowed, what to do.

    A subclass of :class:`ValueError`, so callers from Python need not know it. The command line
    exits with 2.

    Args:
        message: The line.
        key: Where in a mapping the bad value stands, such as ``("supernet", "depth")``; whoever
            read the mapping from a file can name the line.
    """

    def __init__(self, message: str = "", *, key: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.key = key


class UnavailableError(TftasError):
    """A storage, a study or a file is missing, unreadable or in the way.

    The command line exits with 1.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
