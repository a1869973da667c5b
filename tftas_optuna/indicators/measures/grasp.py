"""GraSP: how much the gradient would lose without the weights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import LayerTally, Needs, Network, Weight

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(LayerTally):
    def curvature(self, weight: Weight, values: Tensor, product: Tensor) -> None:
        self.add(weight, -(values * product).sum(dtype=torch.float64))


@dataclasses.dataclass(frozen=True)
class GraSP(NetworkIndicator):
    """Wang et al., Picking winning tickets before training, ICLR 2020, equation 8.

    Minus the sum of ``weight * (Hessian gradient)`` over the linear layers of the blocks and the
    classifier, for the mean cross-entropy of a batch. Higher is better.
    """

    name: str = "grasp"
    needs: ClassVar[Needs] = Needs.of("curvatures")

    def tally(self, network: Network) -> LayerTally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = GraSP()
