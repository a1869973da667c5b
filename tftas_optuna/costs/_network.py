"""Networks for measuring speed and memory, whose weights do not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target


def empty_model(arch: Architecture, target: Target, device: Any = "cpu") -> nn.Module:
    """Build a network in eval mode with constant weights, because drawing random ones is slow."""
    import torch

    from tftas_optuna.models import build_undrawn

    model = build_undrawn(arch, **target.input).eval().requires_grad_(False)
    for parameter in model.parameters():
        # Uninitialised memory may hold denormal numbers, which slow processors down.
        parameter.fill_(0.01)
    return model.to(torch.device(device))
