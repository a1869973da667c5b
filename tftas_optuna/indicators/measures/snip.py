"""SNIP: how much the loss would change without the weights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import LayerTally, Needs, Network, Weight

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(LayerTally):
    def weight_gradient(self, weight: Weight, values: Tensor, gradient: Tensor) -> None:
        self.add(weight, (gradient * values).abs_().sum(dtype=torch.float64))


@dataclasses.dataclass(frozen=True)
class SNIP(NetworkIndicator):
    """Lee et al., SNIP: single-shot network pruning, ICLR 2019, equation 4, unnormalised.

    The sum of ``|gradient * weight|`` over the linear layers of the blocks and the classifier,
    for the mean cross-entropy of a batch. Higher is better.
    """

    name: str = "snip"
    needs: ClassVar[Needs] = Needs.of("weight_gradients")

    def tally(self, network: Network) -> LayerTally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = SNIP()
