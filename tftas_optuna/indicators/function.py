"""Indicators that are functions of a network, one candidate after the other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.base import LayerScore
    from tftas_optuna.metrics import FunctionIndicator
    from tftas_optuna.supernet import Supernet


class FunctionEngine:
    """Scores candidates of one supernet by a function of their stand-alone networks.

    Args:
        supernet: The weights, and the sizes of the image of ones.
        indicator: The function.
    """

    batch_size = 1

    def __init__(self, supernet: Supernet, indicator: FunctionIndicator) -> None:
        self.supernet = supernet
        self._indicator = indicator
        self._shape = (supernet.in_chans, supernet.img_size, supernet.img_size)

    def batch(self, archs: Sequence[Architecture]) -> list[float]:
        """Score candidates, in their order."""
        return [
            score_network(self._indicator, self.supernet.subnet(arch), self._shape)
            for arch in archs
        ]

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Refuse: a function has no layers that add up."""
        raise TftasError(
            f"indicator {self._indicator.name!r} is one number, not a sum over layers"
        )


def score_network(
    indicator: FunctionIndicator, model: nn.Module, shape: tuple[int, int, int]
) -> float:
    """Score one network in eval mode on an image of ones.

    Raises:
        TftasError: The score is no finite number.
    """
    like = next(model.parameters())
    images = torch.ones(1, *shape, dtype=like.dtype, device=like.device)
    score = float(indicator.score(model, images))
    if not math.isfinite(score):
        raise TftasError(f"indicator {indicator.name!r} gives {score}, which is no finite number")
    return score
