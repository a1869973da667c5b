"""Where scores are computed."""

from __future__ import annotations

import os

import torch

from tftas_optuna.errors import TftasError


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
    """Give the GPUs of this process as ``CUDA_VISIBLE_DEVICES`` names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        return []
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
