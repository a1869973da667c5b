"""Layer normalisation with a backward pass without autograd, for one width or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Normalised(Protocol):
    """A layer normalisation that was run forward."""

    @property
    def out(self) -> Tensor:
        """The outputs, in the shape of the inputs."""

    def backward(self, grad: Tensor, residual: Tensor | None, out: Tensor | None) -> Tensor:
        """Return the gradient of the inputs.

        Args:
            grad: The gradient of :attr:`out`.
            residual: What to add to it, or None.
            out: Where to write the result; None for a new tensor.
        """


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

    def backward(
        self, grad: Tensor, residual: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """Return the gradient of the inputs; see :meth:`Normalised.backward`."""
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
        if residual is None:
            return grad_x
        return torch.add(grad_x, residual, out=grad_x if out is None else out)


class Widths(NamedTuple):
    """The widths of candidates that run together.

    Attributes:
        within: 1 up to each candidate's width and 0 beyond, shape (candidates, 1, widest).
        share: 1 / width, shape (candidates, 1, 1).
    """

    within: Tensor
    share: Tensor

    @classmethod
    def of(cls, sizes: Tensor, widest: int, dtype: torch.dtype) -> Widths:
        """Build it from the widths, shape (candidates,)."""
        column = sizes[:, None, None]
        within = torch.arange(widest, device=sizes.device) < column
        return cls(within.to(dtype), 1 / column.to(dtype))

    def first(self, count: int) -> Widths:
        """Return the widths of the first ``count`` candidates."""
        return Widths(self.within[:count], self.share[:count])

    def centre(self, x: Tensor) -> Tensor:
        """Subtract its mean from each token; entries beyond a candidate's width become 0."""
        x = x * self.within
        return x.addcmul_(self.within, x.sum(-1, keepdim=True).mul_(self.share), value=-1)


class MixedLayerNorm(NamedTuple):
    """A layer normalisation of candidates of several widths.

    Entries beyond a candidate's width must be 0, and come out as 0. Backward, they are ignored.
    """

    out: Tensor
    normal: Tensor
    rstd: Tensor
    weight: Tensor | None
    widths: Widths

    @classmethod
    def run(
        cls,
        x: Tensor,
        weights: tuple[Tensor, Tensor] | None,
        eps: float,
        widths: Widths,
        out: Tensor | None = None,
    ) -> MixedLayerNorm:
        """Normalise inputs of shape (candidates, tokens, widest).

        Args:
            x: The inputs.
            weights: Weights and biases; None if these are ones and zeros.
            eps: What is added to the variance.
            widths: The widths of the candidates.
            out: Where to write the outputs; None for a new tensor.
        """
        within, share = widths
        mean = x.sum(-1, keepdim=True).mul_(share)
        centred = torch.addcmul(x, within, mean, value=-1)
        variance = torch.linalg.vecdot(centred, centred).unsqueeze_(-1).mul_(share)
        rstd = variance.add_(eps).rsqrt_()
        if weights is None:
            normal = torch.mul(centred, rstd, out=out)
            return cls(normal, normal, rstd, None, widths)
        weight, bias = (tensor[: x.shape[-1]] for tensor in weights)
        normal = centred.mul_(rstd)
        return cls(
            torch.addcmul(bias * within, normal, weight, out=out), normal, rstd, weight, widths
        )

    def backward(
        self, grad: Tensor, residual: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """Return the gradient of the inputs; see :meth:`Normalised.backward`."""
        within, share = self.widths
        grad = grad * (within if self.weight is None else within * self.weight)
        mean = grad.sum(-1, keepdim=True).mul_(share)
        along = torch.linalg.vecdot(grad, self.normal).unsqueeze_(-1).mul_(share)
        grad.addcmul_(self.normal, along, value=-1).addcmul_(within, mean, value=-1)
        if residual is None:
            return torch.mul(grad, self.rstd, out=out)
        return torch.addcmul(residual, grad, self.rstd, out=out)


def normalise(
    x: Tensor,
    weights: tuple[Tensor, Tensor],
    eps: float,
    widths: Widths | None,
    out: Tensor | None = None,
    *,
    plain: bool,
) -> Normalised:
    """Normalise the tokens of candidates.

    Args:
        x: Shape (candidates, tokens, widest).
        weights: Weights and biases.
        eps: What is added to the variance.
        widths: The widths of the candidates, the first of which these are; None for one width.
        out: Where to write the outputs; None for a new tensor.
        plain: Whether the weights are ones and the biases zeros.
    """
    if widths is not None:
        return MixedLayerNorm.run(x, None if plain else weights, eps, widths.first(len(x)), out)
    norm = LayerNorm.run(x, weights, eps)
    return norm if out is None else norm._replace(out=out.copy_(norm.out))


def masked(x: Tensor, mask: Tensor | None, out: Tensor | None) -> Tensor:
    """Multiply a tensor, which is no longer needed, by a mask.

    Args:
        x: The tensor.
        mask: The mask of more candidates, of which these are the first; None to leave it out.
        out: Where to write the result; None for any place.
    """
    if mask is not None:
        return torch.mul(x, mask[: len(x)], out=x if out is None else out)
    return x if out is None else out.copy_(x)


def added(x: Tensor, change: Tensor, inside: Tensor | None) -> Tensor:
    """Add a change, which is no longer needed, to the residual stream.

    Args:
        x: The residual stream, shape (candidates, tokens, width).
        change: The change, of the same shape.
        inside: The mask of what belongs to candidates, of which these are the first; None if
            all does.
    """
    return change.add_(x) if inside is None else torch.addcmul(x, change, inside[: len(x)])
