"""Networks whose speed and size matter, but not their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target

_DRAWING = {"uniform_", "normal_", "erfinv_"}


def empty_model(arch: Architecture, target: Target, device: Any = "cpu") -> nn.Module:
    """Build a network in eval mode with constant weights: drawing random ones takes longest."""
    import torch
    from torch.overrides import TorchFunctionMode

    from tftas_optuna.models import build_model

    class DrawNothing(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if getattr(func, "__name__", "") in _DRAWING:
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with DrawNothing():
        model = build_model(arch, **target.input)
    model.eval().requires_grad_(False)
    for parameter in model.parameters():
        # Memory as it is found may hold denormal numbers, with which processors are slow.
        parameter.fill_(0.01)
    return model.to(torch.device(device))
