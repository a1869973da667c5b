"""MeCo: how independent the tokens of one image are."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.tally import LayerTally, Needs, Network, Weight

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(LayerTally):
    def output(self, weight: Weight, outputs: Tensor) -> None:
        # Padding tokens are constant and have no correlations.
        outputs = outputs[(outputs != outputs[:, :1]).any(1)]
        tokens, width = outputs.shape
        # The rank is at most that of centred outputs, or of inputs and a bias: with more tokens
        # the smallest eigenvalue is zero.
        if tokens > min(width - 1, weight.shape[1] + 1) or not tokens:
            self.add(weight, 0.0)
            return
        correlation = torch.corrcoef(outputs.double()).reshape(tokens, tokens)
        self.add(weight, torch.linalg.eigvalsh(correlation)[0].clamp_min(0))


@dataclasses.dataclass(frozen=True)
class MeCo(NetworkIndicator):
    """Jiang et al., MeCo: zero-shot NAS with one data and single forward pass, NeurIPS 2023.

    The smallest eigenvalue of the correlation matrix between the tokens of one image at the
    output of a linear layer, summed over the layers of the blocks and the classifier. Higher is
    better.
    """

    name: str = "meco"
    needs: ClassVar[Needs] = Needs.of("outputs")

    def tally(self, network: Network) -> LayerTally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = MeCo()
