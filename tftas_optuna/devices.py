"""Where things are computed: devices by name, and threads."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterator


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn a name into a device that is there.

    Raises:
        TftasError: It is not a device name, or this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise TftasError(f"device {device!r} is not a device; use auto, cpu or cuda") from error
    if resolved.type == "cpu":
        return resolved
    if resolved.type != "cuda":
        raise TftasError(f"device {str(resolved)!r} is not supported; use auto, cpu or cuda")
    if not torch.cuda.is_available() or (resolved.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise TftasError(
            f"device {str(resolved)!r} is not there: {count} CUDA devices found; use auto or cpu"
        )
    return resolved


def gpu_names() -> list[str]:
    """List the GPUs of this process as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return []
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


_here = threading.local()


def stay_on_one_thread() -> None:
    """Let this thread compute on one core, for good, beside others of the process that do so."""
    torch.set_num_threads(1)
    _here.stays = True


def stays_on_one_thread() -> bool:
    """Tell whether this thread computes beside others; see :func:`stay_on_one_thread`."""
    return getattr(_here, "stays", False)


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Compute on one thread for a while if the device is a CPU."""
    if stays_on_one_thread():
        yield
        return
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
