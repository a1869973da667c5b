"""NASWOT: how differently the images of a batch activate the units."""

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
        self._kernel: Tensor | float = 0.0

    def activation(self, before: Tensor) -> None:
        self._kernel = self._kernel + agreements(before)

    def value(self) -> float:
        assert isinstance(self._kernel, torch.Tensor)
        return float(torch.linalg.slogdet(self._kernel).logabsdet)


@dataclasses.dataclass(frozen=True)
class NASWOT(NetworkIndicator):
    """Mellor et al., Neural architecture search without training, ICML 2021, section 3.

    The logarithm of ``|det K|``; K counts, for every two images of a batch, the inputs of the
    blocks' activations that have the same sign. Higher is better.
    """

    name: str = "naswot"
    needs: ClassVar[Needs] = Needs.of("activations")

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


def agreements(before: Tensor) -> Tensor:
    """Count the inputs of an activation that have the same sign in two images.

    Args:
        before: The inputs, shape (n, ...).

    Returns:
        Counts for all pairs, shape (n, n), in float64.
    """
    positive = before.flatten(1) > 0
    units = positive.shape[1]
    # Products of signs sum to agreements minus differences. Sums of 2**24 ones are exact in
    # float32.
    total = before.new_zeros(len(positive), len(positive), dtype=torch.float64)
    for part in positive.split(1 << 24, dim=1):
        signs = part.to(torch.float32).mul_(2).sub_(1)
        total += (signs @ signs.T).double()
    return (total + units) / 2


METRIC = NASWOT()
