"""SWAP-Score: how many different patterns the signs of activations make over the images."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import Needs, Network, Tally

if TYPE_CHECKING:
    from torch import Tensor


class Patterns:
    """The signs of the inputs of activations over all images, one pattern for each input.

    Args:
        batches: Number of batches of images.
    """

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self._layers: list[Tensor] = []

    def add(self, before: Tensor) -> None:
        """Add one batch of one activation, in the order of the network.

        Args:
            before: The inputs, shape (n, tokens, units).
        """
        positive = before.flatten(1) > 0
        packed = positive.new_zeros(math.ceil(len(positive) / 8), positive.shape[1]).byte()
        for i, row in enumerate(positive):
            packed[i // 8].mul_(2).add_(row)
        self._layers.append(packed)

    def count(self, begin: float = 0.0, end: float = 1.0) -> int:
        """Count the different patterns.

        Args:
            begin: Share of the activations that is left out at the beginning.
            end: Share of the activations after which the others are left out.
        """
        layers = len(self._layers) // self._batches
        counted = interval(layers, begin, end)
        batches = (
            torch.cat(self._layers[first : first + layers][counted], dim=1)
            for first in range(0, len(self._layers), layers)
        )
        return _distinct(torch.cat(list(batches)))


class _Tally(Tally):
    def __init__(self, batches: int) -> None:
        self._patterns = Patterns(batches)

    def activation(self, before: Tensor) -> None:
        self._patterns.add(before)

    def value(self) -> float:
        return float(self._patterns.count())


@dataclasses.dataclass(frozen=True)
class SWAP(NetworkIndicator):
    """Peng et al., SWAP-NAS, ICLR 2024: the cardinality of the sample-wise activation patterns.

    The inputs of the blocks' activations (one for each token and hidden unit) are positive or not
    in each image; these signs over all images are the pattern of an input. The value is the number
    of different patterns in the network. Higher is better.

    There are at most ``2 ** images`` patterns. A Vision Transformer has a million inputs or more,
    and eight images show all 256 patterns in every network. So it takes four batches. Then
    AutoFormers of one space are ranked as by the number of these inputs, by noise and by pictures
    alike, and PiTs nearly so. The factor that the paper calls regularisation, of the number of
    parameters and two constants chosen for a search space, is left out.
    """

    name: str = "swap"
    needs: ClassVar[Needs] = Needs.of("activations", batches=4)

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally(self.needs.batches)


def interval(count: int, begin: float, end: float) -> slice:
    """Return the places of an interval among some layers, never none of them.

    Args:
        count: Number of layers.
        begin: Where it begins, as a share of the layers, rounded down.
        end: Where it ends, as a share of the layers, rounded up.
    """
    return slice(math.floor(begin * count), math.ceil(end * count))


def _distinct(packed: Tensor) -> int:
    """Count the different columns of bytes, shape (bytes, columns)."""
    codes = packed.new_zeros(packed.shape[1], dtype=torch.int64)
    free = 63
    for row in packed:
        if free < 8:
            # Numbers of columns have 31 bits and take the place of the bytes that they stand for.
            codes = torch.unique(codes, return_inverse=True)[1]
            free = 32
        codes.mul_(256).add_(row)
        free -= 8
    return len(torch.unique(codes))


METRIC = SWAP()
