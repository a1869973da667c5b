"""Errors of storages, files and terminals, in one line that says what to do.

They come from many libraries, wherever a storage is read or written. Any other error is a bug of
this package and is not changed.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import traceback
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage.opening import advised

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATABASE = (StorageInternalError, DBAPIError, PoolTimeoutError, sqlite3.Error)
# Modules that read storages: if they fail on a key or a value, the storage is damaged.
_READERS = ("optuna.storages", "tftas_optuna.storage.bulk_reading")


def told(error: BaseException) -> str | None:
    """Return one line for an error of a storage, a file or a terminal; None for any other."""
    if isinstance(error, _DATABASE) or _is_of_proxy(error):
        return f"the storage cannot be used: {advised(error)}"
    if isinstance(error, UnicodeEncodeError):
        text = ascii(error.object[error.start : error.end])
        return (
            f"{text} cannot be written in {error.encoding}, the encoding of this locale; set"
            " LC_ALL=C.UTF-8, or PYTHONIOENCODING=utf-8"
        )
    if isinstance(error, OSError):
        return advised(error)
    if isinstance(error, KeyError | ValueError) and _is_read(error):
        return (
            f"the storage cannot be read ({advised(error)}): it is damaged, or a study was deleted"
            " meanwhile; go on with a copy, or with another --study-name"
        )
    return None


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn errors of storages and files into :class:`tftas_optuna.UnavailableError`.

    A broken pipe is left to the caller.
    """
    try:
        yield
    except (UnavailableError, BrokenPipeError):
        raise
    except Exception as error:
        line = told(error)
        if line is None:
            raise
        raise UnavailableError(line) from error


def _is_of_proxy(error: BaseException) -> bool:
    # It is loaded only if a proxy is used.
    grpc = sys.modules.get("grpc")
    return grpc is not None and isinstance(error, grpc.RpcError)


def _is_read(error: BaseException) -> bool:
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(f.f_globals.get("__name__")).startswith(_READERS) for f in frames)
