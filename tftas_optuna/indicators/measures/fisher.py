"""Fisher: how much the loss would change without the units of the MLPs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import Needs, Network, Tally

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(Tally):
    def __init__(self) -> None:
        self._total = 0.0

    def activation_gradient(self, after: Tensor, gradient: Tensor) -> None:
        by_unit = (after * gradient).sum((0, 1), dtype=torch.float64)
        self._total += float(by_unit.square().sum()) / 2 / len(after)

    def value(self) -> float:
        return self._total


@dataclasses.dataclass(frozen=True)
class Fisher(NetworkIndicator):
    """Theis et al. 2018, equation 8; Turner et al., BlockSwap, ICLR 2020, equation 2.

    For each unit of the blocks' activations, its output times the gradient of the mean
    cross-entropy is summed over the images and tokens of a batch. The value is half the sum of
    the squares over all units, divided by the number of images. Higher is better.
    """

    name: str = "fisher"
    needs: ClassVar[Needs] = Needs.of("activation_gradients")

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = Fisher()
