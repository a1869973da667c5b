"""Top-1 accuracy of a candidate's slices of a trained supernet.

The objective of AutoFormer's evolution search: M. Chen, H. Peng, J. Fu and H. Ling, "AutoFormer:
Searching Transformers for Visual Recognition" (ICCV 2021), section 3.4.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tftas_optuna.indicators.labelled import LabelledIndicator

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Accuracy(LabelledIndicator):
    """The share of labelled images whose class has the largest output, in per cent."""

    def of_images(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return 100 for each image that is classified correctly, else 0."""
        return 100.0 * (logits.argmax(dim=1) == labels)


METRIC = Accuracy("accuracy", unit="%")
