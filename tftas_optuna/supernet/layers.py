"""Layer normalisation that is run backwards without autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class LayerNorm(NamedTuple):
    """A layer normalisation that was run, and can be run backwards."""

    out: Tensor
    x: Tensor
    mean: Tensor
    rstd: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def run(cls, x: Tensor, weights: tuple[Tensor, Tensor], eps: float) -> LayerNorm:
        """Normalise (..., width) with the first of the weights and biases."""
        width = x.shape[-1]
        weight, bias = weights[0][:width], weights[1][:width]
        out, mean, rstd = torch.native_layer_norm(x, (width,), weight, bias, eps)
        return cls(out, x, mean, rstd, weight, bias)

    def backward(self, grad: Tensor) -> Tensor:
        """Turn gradients of ``out`` into gradients of ``x``."""
        grad_x: Tensor = torch.ops.aten.native_layer_norm_backward(
            grad,
            self.x,
            self.x.shape[-1:],
            self.mean,
            self.rstd,
            self.weight,
            self.bias,
            [True, False, False],
        )[0]
        return grad_x
