"""Jacobian covariance: how differently the logits depend on the images of a batch."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import Needs, Network, Tally

if TYPE_CHECKING:
    from torch import Tensor

_SMALL = 1e-5


class _Tally(Tally):
    def __init__(self) -> None:
        self._value = math.nan

    def image_gradients(self, gradients: Tensor) -> None:
        correlations = torch.corrcoef(gradients.double())
        if not correlations.isfinite().all():
            return  # No gradient reaches the images.
        eigenvalues = torch.linalg.eigvalsh(correlations) + _SMALL
        self._value = -float((eigenvalues.log() + 1 / eigenvalues).sum())

    def value(self) -> float:
        return self._value


@dataclasses.dataclass(frozen=True)
class JacobianCovariance(NetworkIndicator):
    """Mellor et al., Neural architecture search without training, version 1, 2020, equation 2.

    ``-sum(log(v + k) + 1 / (v + k))`` over the eigenvalues v of the correlation matrix of the
    gradients of the summed logits by the images of a batch, k = 1e-5. Higher is better.
    """

    name: str = "jacob_cov"
    needs: ClassVar[Needs] = Needs.of("image_gradients")

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = JacobianCovariance()
