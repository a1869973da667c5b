"""AutoProxA: a proxy for Vision Transformers from an automatic search over formulas."""

from __future__ import annotations

import dataclasses

import torch

from tftas_optuna.indicators.layers import LayerIndicator
from tftas_optuna.passes.layers import Layer, LayerTerms, Norms, n_weights


@dataclasses.dataclass(frozen=True)
class AutoProxA(LayerIndicator):
    """Wei et al., Auto-Prox, AAAI 2024: the proxy that their search returned.

    In the pass of DSS (absolute weights, an image of ones, the sum of the logits) every
    attention matrix adds the sum of ``|gradient|``; every MLP matrix and the classifier add the
    mean of ``sigmoid(gradient)``. Higher is better.
    """

    name: str = "auto_prox_a"

    def fold(self, layer: Layer, norms: Norms) -> LayerTerms:
        """Score layers of several candidates; see :meth:`LayerIndicator.fold`."""
        if layer.role == "attention":
            values = layer.gradients.sums(torch.abs)
            return LayerTerms(values, torch.zeros_like(values))
        sums = layer.gradients.sums(_above_half)
        values = 0.5 + sums / n_weights(layer)
        return LayerTerms(values, torch.zeros_like(values))


def _above_half(gradient: torch.Tensor) -> torch.Tensor:
    # Narrow candidates are padded with zeros, which must add nothing.
    return gradient.sigmoid().sub_(0.5)


METRIC = AutoProxA()
