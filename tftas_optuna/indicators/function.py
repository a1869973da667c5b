"""Indicators that are functions of a network, one candidate after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.base import checked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.base import LayerScore
    from tftas_optuna.metrics import FunctionIndicator
    from tftas_optuna.supernet import Supernet


class FunctionEngine:
    """Scores candidates of one supernet by functions of their stand-alone networks.

    Args:
        supernet: The weights, and the sizes of the image of ones.
        indicators: The functions.

    Attributes:
        indicators: The same.
    """

    batch_size = 1

    def __init__(self, supernet: Supernet, indicators: Sequence[FunctionIndicator]) -> None:
        self.supernet = supernet
        self.indicators = tuple(indicators)
        self._shape = (supernet.in_chans, supernet.img_size, supernet.img_size)

    def prepare(self) -> None:
        """Do nothing: weights are drawn with the first network."""

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Score candidates, in their order; each by every indicator."""
        rows = []
        for arch in archs:
            network = self.supernet.subnet(arch)
            of = arch.summary()
            rows.append(tuple(score_network(i, network, self._shape, of) for i in self.indicators))
        return rows

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Refuse: a function has no layers that add up."""
        raise TftasError(
            f"indicator {self.indicators[0].name!r} is one number, not a sum over layers"
        )


def score_network(
    indicator: FunctionIndicator, model: nn.Module, shape: tuple[int, int, int], of: str = ""
) -> float:
    """Score one network in eval mode on an image of ones.

    Args:
        indicator: The function.
        model: The network.
        shape: Of the image.
        of: What to call the network in the error.

    Raises:
        NotFiniteError: The score is no finite number.
    """
    like = next(model.parameters())
    images = torch.ones(1, *shape, dtype=like.dtype, device=like.device)
    score: object = indicator.score(model, images)
    try:
        value = float(score)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        told = f" ({of})" if of else ""
        raise TftasError(
            f"indicator {indicator.name!r} gives a {type(score).__name__} that is no number{told}:"
            f" {error}"
        ) from error
    return checked(indicator.name, value, of)
