"""Cross-entropy of a candidate's slices of a trained supernet."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from torch.nn.functional import cross_entropy

from tftas_optuna.indicators.labelled import LabelledIndicator

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class CrossEntropy(LabelledIndicator):
    """The mean over labelled images of minus the logarithm of their class's probability, in nats.

    Lower is better. It tells networks of equal accuracy apart.
    """

    def of_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cross-entropy of each image."""
        return cross_entropy(logits, labels, reduction="none")


METRIC = CrossEntropy("cross_entropy", "minimize", "nats")
