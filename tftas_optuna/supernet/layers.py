"""Layer normalisation with a backward pass without autograd, for one width or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class Normalised(Protocol):
    """A layer normalisation that was run forward."""

    @property
    def out(self) -> Tensor:
        """The outputs, in the shape of the inputs."""

    def backward(self, grad: Tensor) -> Tensor:
        """Return the gradient of the inputs, given that of ``out``."""


class LayerNorm(NamedTuple):
    """A layer normalisation of inputs of one width."""

    out: Tensor
    x: Tensor
    mean: Tensor
    rstd: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def run(cls, x: Tensor, weights: tuple[Tensor, Tensor], eps: float) -> LayerNorm:
        """Normalise inputs of shape (..., width) with the first ``width`` weights and biases."""
        width = x.shape[-1]
        weight, bias = weights[0][:width], weights[1][:width]
        out, mean, rstd = torch.native_layer_norm(x, (width,), weight, bias, eps)
        return cls(out, x, mean, rstd, weight, bias)

    def backward(self, grad: Tensor) -> Tensor:
        """Return the gradient of ``x``, given that of ``out``."""
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
    """The widths of candidates that run together.

    Attributes:
        sizes: The widths, shape (candidates, 1, 1).
        within: 1 up to each candidate's width and 0 beyond, shape (candidates, 1, widest).
    """

    sizes: Tensor
    within: Tensor

    @classmethod
    def of(cls, sizes: Sequence[int], like: Tensor) -> Widths:
        """Build it on the device and in the dtype of the tensor ``like``."""
        column = torch.tensor(sizes, dtype=like.dtype, device=like.device)[:, None, None]
        within = torch.arange(max(sizes), device=like.device) < column
        return cls(column, within.to(like.dtype))

    def first(self, count: int) -> Widths:
        """Return the widths of the first ``count`` candidates."""
        return Widths(self.sizes[:count], self.within[:count])

    def centre(self, x: Tensor) -> Tensor:
        """Subtract its mean from each token; entries beyond a candidate's width become 0."""
        x = x * self.within
        return x.sub_(x.sum(-1, keepdim=True).div_(self.sizes)).mul_(self.within)


class MixedLayerNorm(NamedTuple):
    """A layer normalisation of candidates of several widths.

    Entries beyond a candidate's width are ignored, forward and backward, and come out as 0.
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
        """Normalise inputs of shape (candidates, tokens, widest)."""
        weight, bias = (tensor[: x.shape[-1]] for tensor in weights)
        centred = widths.centre(x)
        variance = centred.square().sum(-1, keepdim=True).div_(widths.sizes)
        rstd = variance.add_(eps).rsqrt_()
        normal = centred.mul_(rstd)
        out = torch.addcmul(bias * widths.within, normal, weight)
        return cls(out, normal, rstd, weight, widths)

    def backward(self, grad: Tensor) -> Tensor:
        """Return the gradient of the inputs, given that of ``out``."""
        centred = self.widths.centre(grad * self.weight)
        along = (centred * self.normal).sum(-1, keepdim=True).div_(self.widths.sizes)
        return centred.addcmul_(self.normal, along, value=-1).mul_(self.rstd)
