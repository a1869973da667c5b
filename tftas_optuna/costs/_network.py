"""Networks whose speed and size matter, but not their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target


def empty_model(arch: Architecture, target: Target, device: Any = "cpu") -> nn.Module:
    """Build a network in eval mode with constant weights: drawing random ones takes longest."""
    import torch

    from tftas_optuna.models import build_undrawn

    model = build_undrawn(arch, **target.input).eval().requires_grad_(False)
    for parameter in model.parameters():
        # Memory as it is found may hold denormal numbers, with which processors are slow.
        parameter.fill_(0.01)
    return model.to(torch.device(device))
