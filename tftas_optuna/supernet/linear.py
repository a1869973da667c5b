"""Linear layers with absolute weights, stored in a form that avoids cancellation.

Absolute weights have a large mean, and so has their output in the residual stream. The
normalisation that follows subtracts that mean again, and the leading digits are lost. So the mean
of each weight matrix is stored apart: products use the centred matrix, and the contribution of
the mean is added only where no normalisation removes it. This brings collapsed scores in float32
some 20 times closer to float64, at no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Scale = float | Tensor


class CentredLinear:
    """A linear layer with absolute weights at full size; candidates use its upper left corner.

    Args:
        weight: Absolute weights minus their mean, shape (out, in).
        mean: What was subtracted, a scalar.
        bias: Absolute bias, shape (out,), or None.
        adds_mean: Whether :meth:`forward` and :meth:`backward` add the contribution of the mean.
            It makes no difference if the layer writes to the residual stream, or follows a
            normalisation whose output sums to zero.

    Corners and their biases may be scaled, by a number, or by one for each candidate, shape
    (candidates, 1, 1).
    """

    def __init__(
        self, weight: Tensor, mean: Tensor, bias: Tensor | None, *, adds_mean: bool = False
    ) -> None:
        self._centred = weight
        # Views: to make one takes as long as to multiply a few tokens.
        self._corners: dict[tuple[int, int], Tensor] = {}
        self._mean = mean
        self._adds_mean = adds_mean
        self.bias = bias

    def shift(self, x: Tensor, scale: Scale = 1.0) -> Tensor:
        """Return the contribution of the mean to every output, shape (..., 1).

        Args:
            x: Inputs, shape (..., in).
            scale: Factor of the corner.
        """
        return x.sum(-1, keepdim=True).mul_(self._mean * scale)

    def shift_back(self, total: Tensor, scale: Scale = 1.0) -> Tensor:
        """Return the contribution of the mean to the gradient of every input, shape (..., 1).

        Args:
            total: Sum of the output's gradient, shape (..., 1).
            scale: Factor of the corner.
        """
        return total * (self._mean * scale)

    def forward(
        self, x: Tensor, out: int | None = None, *, bias: bool = True, scale: Scale = 1.0
    ) -> Tensor:
        """Apply the corner for these sizes, up to a shift that normalisation removes.

        Args:
            x: Inputs, shape (..., in).
            out: Number of outputs; None for all.
            bias: Whether to add the bias.
            scale: Factor of the corner.

        Returns:
            Shape (..., out).
        """
        weight = self._corner(out or len(self._centred), x.shape[-1])
        added = self.bias[:out] if bias and self.bias is not None else None
        y = self._product(x, weight, added, scale)
        return y.add_(self.shift(x, scale)) if self._adds_mean else y

    def backward(self, grad: Tensor, into: int, scale: Scale = 1.0) -> Tensor:
        """Return the gradient of the input, up to a shift that normalisation removes.

        Args:
            grad: Gradient of the output, shape (..., out).
            into: Number of inputs.
            scale: Factor of the corner.

        Returns:
            Shape (..., in).
        """
        x_grad = self._product(grad, self._corner(grad.shape[-1], into).T, None, scale)
        if not self._adds_mean:
            return x_grad
        return x_grad.add_(self.shift_back(grad.sum(-1, keepdim=True), scale))

    def _corner(self, out: int, into: int) -> Tensor:
        if (out, into) not in self._corners:
            self._corners[out, into] = self._centred[:out, :into]
        return self._corners[out, into]

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Scale) -> Tensor:
        """Compute ``scale * (x @ weight.T + bias)``."""
        if isinstance(scale, torch.Tensor):
            return F.linear(x, weight, bias).mul_(scale)
        if scale == 1:
            return F.linear(x, weight, bias)
        # addmm scales within the product; with beta = 0 it does not read its first argument.
        added, beta = (self._mean, 0.0) if bias is None else (bias, scale)
        rows = torch.addmm(added, x.flatten(0, -2), weight.T, beta=beta, alpha=scale)
        return rows.unflatten(0, x.shape[:-1])


class LinearStack:
    """The linear layers of one kind in several blocks, with absolute weights at full size.

    Args:
        weight: Returns the absolute weights of a block, of the same shape (out, in) for all.
        biases: Absolute bias of each block, shape (out,).
        mean_matters: Whether the layers add the contribution of the mean, see
            :class:`CentredLinear`.
        rescaled: Whether corners and their biases are scaled by the square root of the ratio of
            the fan-ins.
    """

    def __init__(
        self,
        weight: Callable[[int], Tensor],
        biases: Sequence[Tensor],
        *,
        mean_matters: bool,
        rescaled: bool = False,
    ) -> None:
        self._rescaled = rescaled
        for i in range(len(biases)):
            own = weight(i)
            if i == 0:
                self._centred = own.new_empty(len(biases), *own.shape)
                self._means = own.new_empty(len(biases))
            torch.mean(own, out=self._means[i])
            torch.sub(own, self._means[i], out=self._centred[i])
            # Before the next ones are drawn: else the allocator of a CPU leaves a gap for each.
            del own
        biased = any(bool((bias != 0).any()) for bias in biases)
        self.layers = [
            CentredLinear(
                self._centred[i],
                self._means[i],
                bias if biased else None,
                adds_mean=mean_matters,
            )
            for i, bias in enumerate(biases)
        ]

    def empty(self, size: int) -> Tensor:
        """Return a tensor of a size, of the type and on the device of the weights."""
        return self._centred.new_empty(size)

    def scale(self, into: int) -> float:
        """Return the factor of corners with this number of inputs."""
        return float((self._centred.shape[2] / into) ** 0.5) if self._rescaled else 1.0

    def __getitem__(self, blocks: slice) -> StackWeights:
        """Return the absolute weights of some consecutive blocks."""
        return StackWeights(self._centred[blocks], self._means[blocks], self._rescaled)


class StackWeights(NamedTuple):
    """The absolute weights of consecutive blocks; see :class:`tftas_optuna.supernet.Weights`.

    Attributes:
        centred: Absolute weights minus their means, shape (layers, out, in).
        means: The means, shape (layers,).
        rescaled: Whether corners are scaled to their fan-in.
    """

    centred: Tensor
    means: Tensor
    rescaled: bool

    def scale(self, into: int) -> float:
        """Return the factor of corners with this number of inputs."""
        return float((self.centred.shape[2] / into) ** 0.5) if self.rescaled else 1.0

    def whole(self, layer: int, out: int, into: int) -> Tensor:
        """Return a corner of one layer, shape (out, in)."""
        scale = self.scale(into)
        return torch.add(self.means[layer] * scale, self.centred[layer, :out, :into], alpha=scale)

    def through(self, delta: Tensor, into: int) -> Tensor:
        """Return the products of rows, (layers, rows, out), with the corners."""
        scale = self.scale(into)
        shift = delta.sum(2, keepdim=True).mul_(self.means[:, None, None] * scale)
        weights = self.centred[:, : delta.shape[2], :into]
        return torch.baddbmm(shift, delta, weights, alpha=scale)
