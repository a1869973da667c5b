"""Errors with a message for the user."""

from __future__ import annotations


class TftasError(ValueError):
    """Invalid input; the message says in one line what was given, what is allowed, what to do.

    A subclass of :class:`ValueError`, so that callers need not know it. The command line exits
    with 2.

    Args:
        message: The message.
        key: Key of the invalid value in a mapping, such as ``("supernet", "depth")``, so that
            the reader of a file can name the line.
    """

    def __init__(self, message: str = "", *, key: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.key = key


class UnavailableError(TftasError):
    """A storage, a study or a file is missing or unreadable, or a file must not be replaced.

    The command line exits with 1.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
