"""The deployment that latency and peak memory refer to: device, batch size and threads."""

from __future__ import annotations

import contextlib
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tftas_optuna._given import whole


class Deployment(NamedTuple):
    """How networks are run when latency or peak memory is measured.

    Attributes:
        batch_size: Images per batch.
        threads: CPU threads while latency is measured; None for torch's default.
    """

    batch_size: int = 1
    threads: int | None = None

    def on(self, device: str) -> dict[str, Any]:
        """Return the full description for a device of this machine, as studies record it.

        Args:
            device: Name of the device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...

        Returns:
            The ``device``, its ``hardware``, the ``batch_size`` and the ``threads``.

        Raises:
            TftasError: The device is not available, or a number is below 1.
        """
        for name in ("batch_size", "threads"):
            value = getattr(self, name)
            if value is not None:
                whole(name, value)
        import torch

        from tftas_optuna.devices import resolve_device

        resolved = str(resolve_device(device))
        return {
            "device": resolved,
            "hardware": device_name(resolved),
            "batch_size": self.batch_size,
            "threads": self.threads or torch.get_num_threads(),
        }


@lru_cache(maxsize=8)
def device_name(device: str) -> str:
    """Return the name of the hardware behind a device, such as the processor's model."""
    import torch

    from tftas_optuna.devices import resolve_device

    resolved = resolve_device(device)
    if resolved.type == "cuda":
        return torch.cuda.get_device_name(resolved)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
