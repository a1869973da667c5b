"""Linear regions between the images of a batch."""

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
        # The diagonal is zero, and the matrix contains every pair twice.
        self._total += float(differences.sum()) / (n * (n - 1))

    def value(self) -> float:
        return self._total


@dataclasses.dataclass(frozen=True)
class LinearRegions(NetworkIndicator):
    """After Chen et al., Neural architecture search on ImageNet in four GPU hours, ICLR 2021.

    The number of inputs of the activations whose sign differs between two images, averaged over
    the pairs of a batch and summed over the blocks. With a piecewise linear activation, the way
    from one image to the other crosses at least as many regions. The paper counts distinct sign
    patterns instead, which on a Vision Transformer always gives the maximum. Higher is better.
    """

    name: str = "linear_regions"
    needs: ClassVar[Needs] = Needs.of("activations")

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = LinearRegions()
