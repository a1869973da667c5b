"""Runs of a stand-alone network in eval mode, with given weights."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def run_with(model: nn.Module, parameters: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Return the logits of a network with the given parameters in place of its own.

    Raises:
        TftasError: The network does not return a single tensor.
    """
    buffers = {
        name: buffer.to(images.dtype) if buffer.is_floating_point() else buffer
        for name, buffer in model.named_buffers()
    }
    outputs = torch.func.functional_call(model, {**parameters, **buffers}, (images,))
    if not isinstance(outputs, Tensor):
        raise TftasError(
            f"{type(model).__name__} gives a {type(outputs).__name__}, not one tensor of logits"
        )
    return outputs


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold a network in eval mode inside a ``with`` block.

    The switch to training mode at both ends makes networks drop what they cache of their weights.
    """
    modes = {module: module.training for module in model.modules()}
    model.train()
    model.eval()
    try:
        yield
    finally:
        model.train()
        for module, mode in modes.items():
            module.training = mode
