"""Trainability: how evenly gradients pass through the blocks."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import Needs, Network, Tally

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(Tally):
    def __init__(self) -> None:
        self._terms: list[float] = []

    def block(self, grad_in: Tensor, grad_out: Tensor) -> None:
        if grad_in.shape[0] != grad_out.shape[0]:
            return  # The block changes the number of tokens.
        spectral = float(torch.linalg.matrix_norm(grad_in.T @ grad_out, 2)) / len(grad_out)
        # If no gradient passes, the value is the limit, which is not a finite score.
        self._terms.append(2 - spectral - 1 / spectral if spectral else -math.inf)

    def value(self) -> float:
        return sum(self._terms) / len(self._terms) if self._terms else math.nan


@dataclasses.dataclass(frozen=True)
class Trainability(NetworkIndicator):
    """Lee and Ham, AZ-NAS, CVPR 2024, equations 7 to 9.

    The mean over the blocks of ``2 - s - 1 / s``; s is the largest singular value of
    ``g_in' g_out / rows``, where g_out are random signs at the output of the block and g_in is
    the resulting gradient at its input. Higher is better.
    """

    name: str = "trainability"
    needs: ClassVar[Needs] = Needs.of("blocks")

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = Trainability()
