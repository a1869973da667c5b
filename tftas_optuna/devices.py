"""Devices by name, and the number of CPU threads."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Multiply-adds of one layer that justify another thread: a core takes some milliseconds for them.
# On a busy machine threads wait that long for each other after every layer.
_MACS_PER_THREAD = 64e6


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device of a name.

    Raises:
        TftasError: It is not a device name, or this machine has no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
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
    """Return the names of the GPUs of this process, as in ``CUDA_VISIBLE_DEVICES``."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return []
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


_local = threading.local()
_lock = threading.Lock()
# Number of active `keep_threads` contexts, and PyTorch's number of threads before the first one.
_n_keepers = 0
_threads_before = 0


def usual_threads() -> int:
    """Return PyTorch's number of threads here, without temporary changes by other threads."""
    with _lock:
        return _own_threads()


@contextlib.contextmanager
def keep_threads() -> Iterator[int]:
    """Yield PyTorch's number of threads here, and restore it in the end.

    A number set by one thread also applies to threads that have not computed anything yet. While
    such a context is active, those use the number from before the first context.
    """
    global _n_keepers, _threads_before
    with _lock:
        if not _n_keepers:
            _threads_before = torch.get_num_threads()
        own = _own_threads()
        _n_keepers += 1
    _local.has_own_number = True
    try:
        yield own
    finally:
        with _lock:
            _n_keepers -= 1
            torch.set_num_threads(own)


def _own_threads() -> int:
    if _n_keepers and not getattr(_local, "has_own_number", False):
        return _threads_before
    return torch.get_num_threads()


def stay_on_one_thread() -> None:
    """Limit this thread to one core from now on, because other threads compute in parallel."""
    torch.set_num_threads(1)
    _local.single = True


def stays_on_one_thread() -> bool:
    """Return whether :func:`stay_on_one_thread` was called in this thread."""
    return getattr(_local, "single", False)


@contextlib.contextmanager
def limit_threads(count: int | None) -> Iterator[None]:
    """Limit PyTorch to a number of threads within a context; None means no limit."""
    if count is None or stays_on_one_thread():
        yield
        return
    with keep_threads() as own:
        torch.set_num_threads(min(count, own))
        yield


def one_thread(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Limit PyTorch to one thread within a context if the device is a CPU."""
    return limit_threads(1 if device.type == "cpu" else None)


def threads_for(layer_macs: float, device: torch.device) -> int | None:
    """Return a number of threads for passes through a network; see :func:`limit_threads`.

    Args:
        layer_macs: Multiply-adds of one of its layers for all images of a pass.
        device: Device of the pass.

    Returns:
        The number, or None if the device is not a CPU.
    """
    if device.type != "cpu":
        return None
    return int(min(max(layer_macs / _MACS_PER_THREAD, 1), 1 << 16))


def layer_macs(model: torch.nn.Module, shape: Sequence[int]) -> float:
    """Return the mean number of multiply-adds per layer for one image.

    Args:
        model: The network.
        shape: Channels, height and width of the image.

    Returns:
        The mean, weighted by the multiply-adds; infinity if the network does not accept such an
        image, which raises a better error where the network is used.
    """
    macs: list[int] = []

    def count(layer: torch.nn.Module, _: object, output: object) -> None:
        weight = layer.weight
        if isinstance(weight, torch.Tensor) and isinstance(output, torch.Tensor):
            macs.append(output.numel() // weight.shape[0] * weight.numel())

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    hooks = [
        layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, kinds)
    ]
    like = next(model.parameters())
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *shape, dtype=like.dtype, device=like.device))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError):
        return float("inf")
    finally:
        for module, mode in training.items():
            module.training = mode
        for hook in hooks:
            hook.remove()
    return sum(count * count for count in macs) / max(sum(macs), 1)
