"""Layer normalisation that is run backwards without autograd, of one width or of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Normalised(Protocol):
    """What was normalised, and the way back."""

    @property
    def out(self) -> Tensor:
        """The outputs, of the shape of the inputs."""

    def backward(self, grad: Tensor) -> Tensor:
        """Turn gradients of ``out`` into gradients of the inputs."""


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


class Widths(NamedTuple):
    """Widths of candidates that run together.

    Attributes:
        sizes: The widths, shape (candidates, 1, 1).
        within: 1 up to each candidate's width, then 0, shape (candidates, 1, widest).
    """

    sizes: Tensor
    within: Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], like: Tensor) -> Widths:
        """Make it, on the device and in the type of a tensor."""
        column = torch.tensor(sizes, dtype=like.dtype, device=like.device)[:, None, None]
        within = torch.arange(max(sizes), device=like.device) < column
        return cls(column, within.to(like.dtype))

    def first(self, count: int) -> Widths:
        """Return the first of the candidates."""
        return Widths(self.sizes[:count], self.within[:count])

    def centre(self, x: Tensor) -> Tensor:
        """Subtract from each token its mean; what is beyond a candidate's width becomes 0."""
        x = x * self.within
        return x.sub_(x.sum(-1, keepdim=True).div_(self.sizes)).mul_(self.within)


class MixedLayerNorm(NamedTuple):
    """A layer normalisation of candidates of several widths, that can be run backwards.

    What is beyond a candidate's width is ignored, forward and backward, and comes out as 0.
    """

    out: Tensor
    normal: Tensor
    rstd: Tensor
    weight: Tensor
    widths: Widths

    @classmethod
    def run(
        cls, x: Tensor, weights: tuple[Tensor, Tensor], eps: float, widths: Widths
    ) -> MixedLayerNorm:
        """Normalise (candidates, tokens, widest)."""
        weight, bias = (each[: x.shape[-1]] for each in weights)
        centred = widths.centre(x)
        variance = centred.square().sum(-1, keepdim=True).div_(widths.sizes)
        rstd = variance.add_(eps).rsqrt_()
        normal = centred.mul_(rstd)
        out = torch.addcmul(bias * widths.within, normal, weight)
        return cls(out, normal, rstd, weight, widths)

    def backward(self, grad: Tensor) -> Tensor:
        """Turn gradients of ``out`` into gradients of the inputs."""
        centred = self.widths.centre(grad * self.weight)
        along = (centred * self.normal).sum(-1, keepdim=True).div_(self.widths.sizes)
        return centred.addcmul_(self.normal, along, value=-1).mul_(self.rstd)
