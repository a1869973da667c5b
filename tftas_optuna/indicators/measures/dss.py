"""The DSS-indicator: synaptic diversity of attention plus synaptic saliency of MLPs."""

from __future__ import annotations

import dataclasses

from tftas_optuna.indicators.layers import LayerIndicator
from tftas_optuna.indicators.measures.synaptic_diversity import diversity
from tftas_optuna.indicators.measures.synaptic_saliency import saliency
from tftas_optuna.passes.layers import Layer, LayerTerms, Norms


@dataclasses.dataclass(frozen=True)
class DSS(LayerIndicator):
    """Zhou et al., Training-free Transformer Architecture Search, CVPR 2022, equations 4 to 6.

    The weights of the untrained network are replaced by their absolute values, an image of ones
    goes forward, and the sum of the logits back. Every attention matrix (qkv as one, and proj)
    adds the product of the nuclear norms of its weights and of their gradient; every MLP matrix
    and the classifier add the sum of ``|gradient * weight|``. Higher is better.

    Attributes:
        head_weight: Factor of the classifier. The widely used corrected reference code counts a
            classifier of 1000 classes twice: 2.0 reproduces it, 0.0 leaves the classifier out.
    """

    name: str = "dss"
    head_weight: float = 1.0

    def fold(self, layer: Layer, norms: Norms) -> LayerTerms:
        """Score layers of several candidates; see :meth:`LayerIndicator.fold`."""
        if layer.role == "attention":
            return diversity(layer, norms)
        return saliency(layer, norms, self.head_weight)


METRIC = DSS()
