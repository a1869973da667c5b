"""Where things are computed: devices by name, and threads."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Multiply-adds of one layer that are worth a thread: a core takes some milliseconds for them. On
# a busy machine threads wait for each other that long, again and again between two layers.
_WORTH_A_THREAD = 64e6


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
_lock = threading.Lock()
# How many callers keep threads at the moment, and PyTorch's number before the first of them.
_keepers = 0
_usual = 0


def usual_threads() -> int:
    """Return the threads that PyTorch has here, whatever others compute on in the meantime."""
    with _lock:
        return _own_threads()


@contextlib.contextmanager
def keep_threads() -> Iterator[int]:
    """Tell how many threads PyTorch has here, and leave it that many in the end.

    What one thread sets is what all get that have computed nothing yet: so long as anybody keeps
    threads, those take the number from before the first one.
    """
    global _keepers, _usual
    with _lock:
        if not _keepers:
            _usual = torch.get_num_threads()
        own = _own_threads()
        _keepers += 1
    _here.has_own = True
    try:
        yield own
    finally:
        with _lock:
            _keepers -= 1
            torch.set_num_threads(own)


def _own_threads() -> int:
    if _keepers and not getattr(_here, "has_own", False):
        return _usual
    return torch.get_num_threads()


def stay_on_one_thread() -> None:
    """Let this thread compute on one core, for good, beside others of the process that do so."""
    torch.set_num_threads(1)
    _here.stays = True


def stays_on_one_thread() -> bool:
    """Tell whether this thread computes beside others; see :func:`stay_on_one_thread`."""
    return getattr(_here, "stays", False)


@contextlib.contextmanager
def limit_threads(count: int | None) -> Iterator[None]:
    """Compute on that many threads for a while, never on more than PyTorch has; None for all."""
    if count is None or stays_on_one_thread():
        yield
        return
    with keep_threads() as own:
        torch.set_num_threads(min(count, own))
        yield


def one_thread(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Compute on one thread for a while if the device is a CPU."""
    return limit_threads(1 if device.type == "cpu" else None)


def threads_for(layer_macs: float, device: torch.device) -> int | None:
    """Choose threads for passes through a network, see :func:`limit_threads`.

    Args:
        layer_macs: Multiply-adds of one of its layers, of all images of a pass.
        device: Where it is computed.
    """
    if device.type != "cpu":
        return None
    return int(min(max(layer_macs / _WORTH_A_THREAD, 1), 1 << 16))


def layer_macs(model: torch.nn.Module, shape: Sequence[int]) -> float:
    """Count the multiply-adds of one image in a layer of a network, averaged over all of them.

    Args:
        model: The network.
        shape: Channels, height and width of the image.

    Returns:
        The average, in which layers with many count more; infinity of a network that does not
        take such an image, about which whoever uses it next has more to say.
    """
    found: list[int] = []

    def count(layer: torch.nn.Module, _: object, output: object) -> None:
        weight = layer.weight
        if isinstance(weight, torch.Tensor) and isinstance(output, torch.Tensor):
            found.append(output.numel() // weight.shape[0] * weight.numel())

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
    return sum(macs * macs for macs in found) / max(sum(found), 1)
