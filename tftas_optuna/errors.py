"""Errors with a message for the user."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


# By difflib's measure; dds is this close to dss, learning_rate is not to decay_rate.
_CLOSE = 0.65


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


class InputFileError(UnavailableError):
    """A file that describes a space, a recipe, an architecture or a table is missing or wrong.

    Such a file is part of what was asked for, so the command line exits with 2.
    """


def did_you_mean(name: object, known: Iterable[str], *, most: int = 100) -> str:
    """Return what follows ``unknown ...`` in a message: the known name that is close, and all.

    Args:
        name: The name that is not known.
        known: The names that are.
        most: Names to list; 0 for no list.

    Returns:
        ``; did you mean 'autoformer-tiny'? known: autoformer-tiny, ...``, or only a part of it.
    """
    names = list(known)
    spelled = {known_name.lower(): known_name for known_name in names}
    close = difflib.get_close_matches(str(name).lower(), spelled, n=1, cutoff=_CLOSE)
    parts = [f"did you mean {spelled[close[0]]!r}?"] if close else []
    if most:
        more = f" and {len(names) - most} more" if len(names) > most else ""
        parts.append(f"known: {', '.join(names[:most]) or 'none'}{more}")
    return f"; {' '.join(parts)}" if parts else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
