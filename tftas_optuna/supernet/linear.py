"""Absolute linear layers of a supernet, kept in a form that loses no digits.

Absolute weights have a large mean, and what they write to the residual stream has one too. Every
reader of that stream normalises it away again, and with it the leading digits of what remains.
So the mean of each weight matrix is kept apart: the products are those of the centred matrix, and
the mean's own part is added where it matters and left out where normalisation removes it.
Collapsed scores in float32 come out some 20 times closer to float64, at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


class AbsoluteLinear:
    """One linear layer at full size; candidates use its upper left corner.

    Args:
        weight: Absolute weights, shape (out, in).
        bias: Absolute bias, shape (out,).
        mean_matters: Whether the mean of the weights changes anything. It does not where the
            layer writes to the residual stream, nor behind a normalisation whose output sums to
            zero.
        keep_whole: Whether the weights are needed in every pass, not only once in a while.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, *, mean_matters: bool, keep_whole: bool
    ) -> None:
        self._mean = weight.mean()
        self._centred = weight - self._mean
        self._whole = weight if keep_whole else None
        self._mean_matters = mean_matters
        self.bias = bias if bool((bias != 0).any()) else None

    def whole(self, out: int, into: int) -> Tensor:
        """Give the absolute weights, shape (out, in)."""
        if self._whole is not None:
            return self._whole[:out, :into]
        return self._centred[:out, :into] + self._mean

    def forward(self, x: Tensor, out: int, *, bias: bool = True) -> Tensor:
        """Apply the corner that fits, up to a shift that normalisation removes.

        Args:
            x: Shape (..., in).
            out: Outputs.
            bias: Whether to add the bias.
        """
        weight = self._centred[:out, : x.shape[-1]]
        added = self.bias[:out] if bias and self.bias is not None else None
        y = F.linear(x, weight, added)
        return y.add_(x.sum(-1, keepdim=True) * self._mean) if self._mean_matters else y

    def backward(self, grad: Tensor, into: int) -> Tensor:
        """Gradient of the input, shape (..., in), up to a shift that normalisation removes."""
        x_grad = grad @ self._centred[: grad.shape[-1], :into]
        if self._mean_matters:
            x_grad.add_(grad.sum(-1, keepdim=True) * self._mean)
        return x_grad
