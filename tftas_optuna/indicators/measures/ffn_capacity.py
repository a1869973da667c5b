"""The capacity of the MLPs, from their shapes alone."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import LayerTally, Needs, Network

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tftas_optuna.passes.tally import Weight


@dataclasses.dataclass(frozen=True)
class FFNCapacity(NetworkIndicator):
    """The published "token entropy" in closed form, without weights and images.

    The logarithms of the hidden width of the MLP and of the width of the tokens, summed over the
    blocks. Higher is better.
    """

    name: str = "ffn_capacity"
    needs: ClassVar[Needs] = Needs()

    def tally(self, network: Network) -> LayerTally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        tally = LayerTally()
        for weight in _largest_of_each_block(network.weights):
            tally.add(weight, sum(map(math.log, weight.shape)))
        return tally


def _largest_of_each_block(weights: Iterable[Weight]) -> list[Weight]:
    """Return the largest MLP weight of each block; smaller ones mix heads or widen tokens."""
    largest: dict[str, Weight] = {}
    for weight in weights:
        if weight.role == "mlp" and weight.block:
            previous = largest.setdefault(weight.block, weight)
            if math.prod(weight.shape) > math.prod(previous.shape):
                largest[weight.block] = weight
    return list(largest.values())


METRIC = FFNCapacity()
