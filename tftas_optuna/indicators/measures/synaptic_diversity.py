"""Synaptic diversity: the part of DSS that attention adds."""

from __future__ import annotations

import dataclasses

from tftas_optuna.indicators.layers import LayerIndicator
from tftas_optuna.passes.gradient import nuclear_norms
from tftas_optuna.passes.layers import Layer, LayerTerms, Norms, nothing, weight_norms


@dataclasses.dataclass(frozen=True)
class SynapticDiversity(LayerIndicator):
    """Zhou et al., Training-free Transformer Architecture Search, CVPR 2022, equation 4.

    In the pass of DSS (absolute weights, an image of ones, the sum of the logits) every attention
    matrix, qkv as one and proj, adds the product of the nuclear norms of its weights and of their
    gradient. With ``synaptic_saliency`` it adds up to ``dss``. Higher is better.
    """

    name: str = "synaptic_diversity"

    def fold(self, layer: Layer, norms: Norms) -> LayerTerms:
        """Score layers of several candidates; see :meth:`LayerIndicator.fold`."""
        return diversity(layer, norms) if layer.role == "attention" else nothing(layer)


def diversity(layer: Layer, norms: Norms) -> LayerTerms:
    """Return the products of the nuclear norms of weights and of their gradients.

    Args:
        layer: The layers.
        norms: A cache of the norms of weights.
    """
    grad_norms, errors = layer.gradients.nuclear_norms()
    own = weight_norms(layer, layer.shapes, norms, nuclear_norms)
    return LayerTerms(own * grad_norms, own * errors, own, grad_norms)


METRIC = SynapticDiversity()
