"""Expressivity: how many directions the tokens take."""

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

    def feature(self, tokens: Tensor) -> None:
        centred = tokens - tokens.mean(0)
        # With fewer rows than columns, the smaller of two matrices with the same eigenvalues.
        gram = centred.T @ centred if len(tokens) > tokens.shape[1] else centred @ centred.T
        shares = torch.linalg.eigvalsh(gram).double().clamp_min(0)
        shares = shares / shares.sum()
        self._total -= float(torch.xlogy(shares, shares).sum())

    def value(self) -> float:
        return self._total


@dataclasses.dataclass(frozen=True)
class Expressivity(NetworkIndicator):
    """Lee and Ham, AZ-NAS, CVPR 2024, equations 2 to 4.

    The entropy of the normalised eigenvalues of the covariance of the tokens of a batch, summed
    over the residual stream behind every attention and every MLP. Higher is better.
    """

    name: str = "expressivity"
    needs: ClassVar[Needs] = Needs.of("features")

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = Expressivity()
