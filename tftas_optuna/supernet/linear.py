"""Absolute linear layers of a supernet, kept in a form that loses no digits.

Absolute weights have a large mean, and what they write to the residual stream has one too. Every
reader of that stream normalises it away again, and with it the leading digits of what remains.
So the mean of each weight matrix is kept apart: the products are those of the centred matrix, and
the mean's own part is added where it matters and left out where normalisation removes it.
Collapsed scores in float32 come out some 20 times closer to float64, at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


class CentredLinear:
    """One absolute linear layer; of one at full size, candidates use the upper left corner.

    Args:
        weight: Absolute weights less their mean, shape (out, in).
        mean: What was subtracted, a scalar.
        bias: Absolute bias, shape (out,), or None.
        adds_mean: Whether :meth:`forward` and :meth:`backward` add the mean's part. It changes
            nothing where the layer writes to the residual stream, nor behind a normalisation
            whose output sums to zero.
        rescaled: Whether a corner, its bias included, is scaled by the root of the ratio of the
            fan-ins.
    """

    def __init__(
        self,
        weight: Tensor,
        mean: Tensor,
        bias: Tensor | None,
        *,
        adds_mean: bool = False,
        rescaled: bool = False,
    ) -> None:
        self._centred = weight
        self._mean = mean
        self._adds_mean = adds_mean
        self.bias = bias
        self._rescaled = rescaled

    @classmethod
    def of(
        cls,
        weight: Tensor,
        bias: Tensor,
        *,
        mean_matters: bool,
        rescaled: bool = False,
    ) -> CentredLinear:
        """Centre a layer.

        Args:
            weight: Absolute weights, shape (out, in); changed in place.
            bias: Absolute bias, shape (out,).
            mean_matters: Whether the mean of the weights changes anything.
            rescaled: Whether corners are scaled to their fan-in.
        """
        mean = weight.mean()
        return cls(
            weight.sub_(mean),
            mean,
            bias if bool((bias != 0).any()) else None,
            adds_mean=mean_matters,
            rescaled=rescaled,
        )

    def whole(self, out: int, into: int) -> Tensor:
        """Return the absolute weights, shape (out, in)."""
        scale = self._scale(into)
        return torch.add(self._mean * scale, self._centred[:out, :into], alpha=scale)

    def shift(self, x: Tensor) -> Tensor:
        """Return what the mean adds to every output, shape (..., 1).

        Args:
            x: Shape (..., in).
        """
        return x.sum(-1, keepdim=True).mul_(self._mean * self._scale(x.shape[-1]))

    def shift_back(self, total: Tensor, into: int) -> Tensor:
        """Return what the mean adds to the gradient of every input, shape (..., 1).

        Args:
            total: Sum of the output's gradient, shape (..., 1).
            into: Inputs.
        """
        return total * (self._mean * self._scale(into))

    def forward(self, x: Tensor, out: int | None = None, *, bias: bool = True) -> Tensor:
        """Apply the corner that fits, up to a shift that normalisation removes.

        Args:
            x: Shape (..., in).
            out: Outputs; None for all.
            bias: Whether to add the bias.

        Returns:
            Shape (..., out).
        """
        weight = self._centred[:out, : x.shape[-1]]
        added = self.bias[:out] if bias and self.bias is not None else None
        y = self._product(x, weight.T, added, self._scale(x.shape[-1]))
        return y.add_(self.shift(x)) if self._adds_mean else y

    def backward(self, grad: Tensor, into: int) -> Tensor:
        """Compute the gradient of the input, up to a shift that normalisation removes.

        Args:
            grad: Gradient of the output, shape (..., out).
            into: Inputs.

        Returns:
            Shape (..., in).
        """
        weight = self._centred[: grad.shape[-1], :into]
        x_grad = self._product(grad, weight, None, self._scale(into))
        if not self._adds_mean:
            return x_grad
        return x_grad.add_(self.shift_back(grad.sum(-1, keepdim=True), into))

    def _scale(self, into: int) -> float:
        return float((self._centred.shape[1] / into) ** 0.5) if self._rescaled else 1.0

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, scale: float) -> Tensor:
        """Compute ``scale * (x @ weight + bias)``."""
        if scale == 1:
            return F.linear(x, weight.T, bias)
        # One product that scales as it goes; where beta is 0, what would be added is not read.
        added, beta = (self._mean, 0.0) if bias is None else (bias, scale)
        rows = torch.addmm(added, x.flatten(0, -2), weight, beta=beta, alpha=scale)
        return rows.unflatten(0, x.shape[:-1])
