"""The condition number of the neural tangent kernel."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch

from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.metrics import Direction
from tftas_optuna.passes.tally import Needs, Network, Tally

if TYPE_CHECKING:
    from torch import Tensor


class _Tally(Tally):
    def __init__(self) -> None:
        self._gram: Tensor | float = 0.0

    def gradients_by_image(self, gradients: Tensor) -> None:
        # The smallest eigenvalue needs float64.
        rows = gradients.double()
        self._gram = self._gram + rows @ rows.T

    def value(self) -> float:
        gram = self._gram
        assert isinstance(gram, torch.Tensor)
        eigenvalues = torch.linalg.eigvalsh(gram)
        # With equal images the smallest eigenvalue is a rounding error, which may be negative.
        smallest = eigenvalues[0].clamp_min(eigenvalues[-1] * torch.finfo(gram.dtype).eps)
        return float(eigenvalues[-1] / smallest)


@dataclasses.dataclass(frozen=True)
class NTKCondition(NetworkIndicator):
    """Chen et al., Neural architecture search on ImageNet in four GPU hours, ICLR 2021, eq. 4.

    The largest over the smallest eigenvalue of the Gram matrix of the images' gradients: the
    gradients of an image's summed logits by the linear layers of the blocks and the classifier.
    Lower is better.
    """

    name: str = "ntk_cond"
    direction: Direction = "minimize"
    needs: ClassVar[Needs] = Needs.of("gradients_by_image")

    def tally(self, network: Network) -> Tally:
        """Return a new tally; see :meth:`NetworkIndicator.tally`."""
        return _Tally()


METRIC = NTKCondition()
