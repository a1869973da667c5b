"""Reads weights from files that are not trusted: nothing but tensors, errors in one line."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError, UnavailableError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PICKLED = (".bin", ".pt", ".pth", ".tar", ".ckpt")
_SHOWN = 120


@contextlib.contextmanager
def reading(path: Path | None, told: Callable[[str], str]) -> Iterator[None]:
    """Turn errors of reading weights into one line.

    Args:
        path: The file, or the directory with it; None if it is unknown.
        told: Makes the line from the reason.

    Raises:
        UnavailableError: It cannot be read, or holds more than tensors.
    """
    try:
        with warnings.catch_warnings():
            # It comes with files that are refused below anyway.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            yield
    except TftasError:
        raise
    except Exception as error:
        # Loading may fail in any way, above all for a malicious file.
        if not _refused(error):
            raise UnavailableError(told(_reason(error))) from error
        # PyTorch and timm advise to read the file unsafely: no traceback may show that.
        raise UnavailableError(told(_why_refused(path))) from None


def _reason(error: Exception) -> str:
    """Return why a file cannot be loaded; PyTorch's own words are long, pickle's mean nothing."""
    damaged = isinstance(error, (LookupError, EOFError)) or "PytorchStreamReader" in str(error)
    return "it is damaged or something else" if damaged else first_line(error)


def _refused(error: BaseException) -> bool:
    causes = (error, error.__cause__, error.__context__)
    return any(isinstance(cause, pickle.UnpicklingError) for cause in causes) or (
        "weights_only" in str(error)
    )


def _why_refused(path: Path | None) -> str:
    names = _pickled_names(path)
    what = f"holds {names}" if names else "is damaged or holds something else"
    return f"only tensors are read, and it {what} (nothing in it was run)"


def _pickled_names(path: Path | None) -> str:
    if path is None:
        return ""
    files = [path] if path.is_file() else sorted(path.glob("*"))
    names: set[str] = set()
    for file in files:
        if file == path or file.suffix in _PICKLED:
            # Lists the names in a pickle without loading it; fails for files before PyTorch 1.6.
            with contextlib.suppress(Exception):
                names |= set(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    text = ", ".join(sorted(names))
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
