"""SynFlow: how much signal flows through the weights."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tftas_optuna.indicators.layers import LayerIndicator
from tftas_optuna.passes.layers import Layer, LayerTerms, Norms, saliencies


@dataclasses.dataclass(frozen=True)
class SynFlow(LayerIndicator):
    """Tanaka et al., Pruning neural networks without any data, NeurIPS 2020, equation 2.

    In the pass of DSS (absolute weights, an image of ones, the sum of the logits) every linear
    layer of a block and the classifier add the sum of ``|gradient * weight|``. Higher is better.
    """

    name: str = "synflow"
    # Bounds of saliencies are worst cases, some ten times the errors.
    tolerance: ClassVar[float] = 1.5e-4

    def fold(self, layer: Layer, norms: Norms) -> LayerTerms:
        """Score layers of several candidates; see :meth:`LayerIndicator.fold`."""
        return LayerTerms(*saliencies(layer, norms))


METRIC = SynFlow()
