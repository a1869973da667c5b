"""Linear regions that lie between the images of a batch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from tftas_optuna.indicators.measures.naswot import agreements
from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import Needs, Network, Tally

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(Tally):
    def __init__(self) -> None:
        self._total = 0.0

    def activation(self, before: Tensor) -> None:
        same = agreements(before)
        n = len(same)
        differences = before[0].numel() - same
        # The diagonal is zero, and every pair stands there twice.
        self._total += float(differences.sum()) / (n * (n - 1))

    def value(self) -> float:
        return self._total


@dataclasses.dataclass(frozen=True)
class LinearRegions(NetworkIndicator):
    """After Chen et al., Neural architecture search on ImageNet in four GPU hours, ICLR 2021.

    Over the blocks, the mean number of the activation's inputs whose sign differs between two
    images of a batch: the regions of a piecewise linear activation that the way from one image to
    the other crosses at least. The number of different codes that they count is always its
    maximum on a Vision Transformer. Higher is better.
    """

    name: str = "linear_regions"
    needs: ClassVar[Needs] = Needs.of("activations")

    def tally(self, network: Network) -> Tally:
        """Begin with a network; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = LinearRegions()
