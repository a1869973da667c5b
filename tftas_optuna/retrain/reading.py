"""Weights that somebody else wrote: read as tensors, refused in one line."""

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
    """Turn what goes wrong while weights are read into one line.

    Args:
        path: The file, or the directory with it; None where nobody knows.
        told: Makes the line from the reason.

    Raises:
        UnavailableError: It cannot be read, or holds more than tensors.
    """
    try:
        with warnings.catch_warnings():
            # Of a file that is refused in the next moment, and not torch's fault.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            yield
    except TftasError:
        raise
    except Exception as error:
        # Anything may happen between a name and its weights, above all in a file that was made to.
        if not _refused(error):
            raise UnavailableError(told(first_line(error))) from error
        # PyTorch and timm advise here to read the file unsafely: not even a traceback says so.
        raise UnavailableError(told(_why_refused(path))) from None


def _refused(error: BaseException) -> bool:
    causes = (error, error.__cause__, error.__context__)
    return any(isinstance(cause, pickle.UnpicklingError) for cause in causes) or (
        "weights_only" in str(error)
    )


def _why_refused(path: Path | None) -> str:
    held = _held(path)
    what = f"holds {held}" if held else "is damaged or holds something else"
    return f"only tensors are read, and it {what} (nothing in it was run)"


def _held(path: Path | None) -> str:
    if path is None:
        return ""
    files = [path] if path.is_file() else sorted(path.glob("*"))
    names: set[str] = set()
    for file in files:
        if file == path or file.suffix in _PICKLED:
            # Looks at the names in a pickle without loading it; knows no file before PyTorch 1.6.
            with contextlib.suppress(Exception):
                names |= set(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    text = ", ".join(sorted(names))
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
