"""The norm of the gradient at initialisation."""

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
        self.add(weight, torch.linalg.vector_norm(gradient))


@dataclasses.dataclass(frozen=True)
class GradNorm(NetworkIndicator):
    """Abdelfattah et al., Zero-cost proxies for lightweight NAS, ICLR 2021, section 3.2.

    The sum of the Euclidean norms of the gradients of the mean cross-entropy of a batch, over the
    linear layers of the blocks and the classifier. Higher is better.
    """

    name: str = "grad_norm"
    needs: ClassVar[Needs] = Needs.of("weight_gradients")

    def tally(self, network: Network) -> LayerTally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = GradNorm()
