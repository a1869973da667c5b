"""Synaptic saliency: the part of DSS that MLPs and the classifier add."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tftas_optuna.indicators.layers import LayerIndicator
from tftas_optuna.passes.layers import Layer, LayerTerms, Norms, nothing, saliencies


@dataclasses.dataclass(frozen=True)
class SynapticSaliency(LayerIndicator):
    """Zhou et al., Training-free Transformer Architecture Search, CVPR 2022, equation 5.

    In the pass of DSS (absolute weights, an image of ones, the sum of the logits) every MLP
    matrix and the classifier add the sum of ``|gradient * weight|``: SynFlow without attention.
    With ``synaptic_diversity`` it adds up to ``dss``. Higher is better.

    Attributes:
        head_weight: Factor of the classifier; see
            :class:`tftas_optuna.indicators.measures.dss.DSS`.
    """

    name: str = "synaptic_saliency"
    head_weight: float = 1.0
    # DSS, of which it is about an eighth, allows it as much. Bounds of saliencies are worst cases,
    # some ten times the errors.
    tolerance: ClassVar[float] = 1.5e-4

    def fold(self, layer: Layer, norms: Norms) -> LayerTerms:
        """Score layers of several candidates; see :meth:`LayerIndicator.fold`."""
        if layer.role == "attention":
            return nothing(layer)
        return saliency(layer, norms, self.head_weight)


def saliency(layer: Layer, norms: Norms, head_weight: float) -> LayerTerms:
    """Return the sums of ``|gradient * weight|``.

    Args:
        layer: The layers.
        norms: A cache of the norms of weights.
        head_weight: Factor of the classifier.
    """
    factor = head_weight if layer.role == "head" else 1.0
    sums = saliencies(layer, norms)
    return LayerTerms(factor * sums.values, factor * sums.errors)


METRIC = SynapticSaliency()
