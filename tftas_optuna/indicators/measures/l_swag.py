"""L-SWAG: how steady gradients are from batch to batch, times the patterns of the activations."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.measures.swap import Patterns, interval
from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import Needs, Network, Tally, Weight

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(Tally):
    def __init__(self, weights: list[Weight], batches: int, begin: float, end: float) -> None:
        self._begin, self._end = begin, end
        self._patterns = Patterns(batches)
        # By weight, the number of batches, the mean of |gradient|, and the sum of its squared
        # distances from the mean (Welford). The key is the whole description, as two parts of one
        # layer have the same name.
        self._moments: dict[Weight, tuple[int, Tensor, Tensor]] = {}
        self._counted = frozenset(weights)

    def activation(self, before: Tensor) -> None:
        self._patterns.add(before)

    def weight_gradient(self, weight: Weight, values: Tensor, gradient: Tensor) -> None:
        if weight not in self._counted:
            return
        size = gradient.abs()
        if weight not in self._moments:
            self._moments[weight] = 1, size, torch.zeros_like(size)
            return
        n, mean, squares = self._moments[weight]
        away = size - mean
        mean.add_(away, alpha=1 / (n + 1))
        squares.addcmul_(away, size.sub_(mean))
        self._moments[weight] = n + 1, mean, squares

    def value(self) -> float:
        logs = []
        for n, _, squares in self._moments.values():
            inverse = (squares / n).rsqrt_()
            inverse = inverse[inverse.isfinite()]
            if inverse.numel():
                logs.append(float(inverse.sum(dtype=torch.float64).log()))
        return math.fsum(logs) * self._patterns.count(self._begin, self._end)


@dataclasses.dataclass(frozen=True)
class LSWAG(NetworkIndicator):
    """Casarin et al., L-SWAG, CVPR 2025: the product of a sum over layers and a number.

    The sum: for each weight, the variance over four batches of the absolute value of the gradient
    of the mean cross-entropy (divided by four, not by three); the logarithm of the sum of
    ``1 / sqrt(variance)`` over the weights of a layer whose variance is above zero; summed over
    the linear layers of the blocks and the classifier. The number: the different patterns of the
    activations' signs over the images of these batches, as in ``swap``. Higher is better.

    Both are taken over an interval of layers: of the linear layers in their order, and of the
    activations in theirs, those from ``begin`` to ``end``, as shares of their number, rounded
    outwards.

    The formula was read in summaries of the paper, not in the paper. They do not say how many
    batches there are, and one gives the variance over images; whether the patterns of different
    layers are one set, as here, or are counted layer by layer; nor which interval the paper takes,
    except that it is chosen for each search space from the gradients of 1,000 networks. Here it is
    all layers unless another one is given.

    Attributes:
        begin: Where the interval begins, from 0 to 1.
        end: Where it ends, from 0 to 1.

    Raises:
        TftasError: The interval is empty or not between 0 and 1.
    """

    name: str = "l_swag"
    begin: float = 0.0
    end: float = 1.0
    needs: ClassVar[Needs] = Needs.of("weight_gradients", "activations", batches=4)

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end <= 1:
            raise TftasError(
                f"l_swag counts layers from begin={self.begin:g} to end={self.end:g}; give shares"
                " with 0 <= begin < end <= 1"
            )

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        weights = list(network.weights)
        counted = weights[interval(len(weights), self.begin, self.end)]
        return _Tally(counted, self.needs.batches, self.begin, self.end)


METRIC = LSWAG()
