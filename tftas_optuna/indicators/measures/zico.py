"""ZiCo: how steady gradients are from batch to batch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import LayerTally, Needs, Network, Weight

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(LayerTally):
    def __init__(self) -> None:
        super().__init__()
        self._first: dict[Weight, Tensor] = {}

    def weight_gradient(self, weight: Weight, values: Tensor, gradient: Tensor) -> None:
        # The key is the whole description, as two parts of one layer have the same name.
        if weight not in self._first:
            self._first[weight] = gradient
            return
        first = self._first.pop(weight)
        # The standard deviation of two numbers is half of their distance.
        ratios = (first.abs() + gradient.abs()).div_((first - gradient).abs_())
        ratios = ratios[ratios.isfinite()]
        if ratios.numel():
            self.add(weight, ratios.sum(dtype=torch.float64).log())


@dataclasses.dataclass(frozen=True)
class ZiCo(NetworkIndicator):
    """Li et al., ZiCo: zero-shot NAS via inverse coefficient of variation, ICLR 2023, eq. 13.

    For each weight, the mean of ``|gradient|`` over two batches is divided by the standard
    deviation of the gradient, for the mean cross-entropy. The value is the logarithm of the sum
    over the weights of a layer, summed over the linear layers of the blocks and the classifier.
    Higher is better. Gradients that differ least between the batches decide, so they are computed
    in float64: float32 leaves two digits of the differences.
    """

    name: str = "zico"
    needs: ClassVar[Needs] = Needs.of("weight_gradients", batches=2, double=True)

    def tally(self, network: Network) -> LayerTally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = ZiCo()
