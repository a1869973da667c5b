"""Where things are computed: devices by name, and threads."""

from __future__ import annotations

import contextlib
import os
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


@contextlib.contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Compute on one thread for a while if the device is a CPU."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
