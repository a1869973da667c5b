"""The DSS-indicator: synaptic diversity of attention plus synaptic saliency of MLPs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from tftas_optuna.indicators.gradient import nuclear_norms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from tftas_optuna.indicators.gradient import Gradients
    from tftas_optuna.supernet.trace import Role


class LayerScore(NamedTuple):
    """Contribution of one layer to a score.

    Attributes:
        name: Name of the layer in the stand-alone network.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        shape: Shape of its weights, (out, in).
        weight_norm: Nuclear norm of the absolute weights; None where saliency is counted.
        grad_norm: Nuclear norm of the gradient; None where saliency is counted.
        value: What it adds to the score.
    """

    name: str
    role: Role
    shape: tuple[int, int]
    weight_norm: float | None
    grad_norm: float | None
    value: float


class LayerTerms(NamedTuple):
    """What one layer of several candidates adds to their scores; all shapes (candidates,).

    Attributes:
        values: The terms.
        errors: Bounds on how much each may lack.
        weight_norms: Nuclear norms of the weights; None where saliency is counted.
        grad_norms: Nuclear norms of the gradients; None where saliency is counted.
    """

    values: Tensor
    errors: Tensor
    weight_norms: Tensor | None
    grad_norms: Tensor | None


class DSS:
    """Zhou et al., Training-free Transformer Architecture Search, CVPR 2022, equations 4 to 6.

    The weights of the untrained network are replaced by their absolute values, an image of ones
    goes forward, and the sum of the logits back. Every attention matrix (qkv as one, and proj)
    adds the product of the nuclear norms of its weights and of their gradient; every MLP matrix
    and the classifier add the sum of ``|gradient * weight|``. Higher is better.

    Args:
        head_weight: Factor of the classifier. The widespread repaired reference code counts a
            classifier of 1000 classes twice: 2.0 reproduces it, 0.0 leaves the classifier out.
    """

    def __init__(self, *, head_weight: float = 1.0) -> None:
        self.head_weight = head_weight
        self._weight_norms: dict[tuple[str, tuple[int, int]], float] = {}

    def layer(
        self,
        name: str,
        role: Role,
        shapes: Sequence[tuple[int, int]],
        weight: Callable[[int, int], Tensor],
        gradients: Gradients,
    ) -> LayerTerms:
        """Score one layer of several candidates.

        Nuclear norms of weights are kept by name and shape: one object serves one set of weights.

        Args:
            name: Name of the layer.
            role: What the layer does.
            shapes: Shape of each candidate's own weights.
            weight: Gives the absolute weights of a candidate, by their shape.
            gradients: Gradients of the summed logits with respect to the weights.
        """
        if role != "attention":
            widest = max(out for out, _ in shapes), max(into for _, into in shapes)
            values = gradients.saliencies(weight(*widest)).double()
            values = values * self.head_weight if role == "head" else values
            return LayerTerms(values, torch.zeros_like(values), None, None)
        for shape in set(shapes):
            if (name, shape) not in self._weight_norms:
                self._weight_norms[name, shape] = float(nuclear_norms(weight(*shape)))
        norms = gradients.nuclear_norms()
        weight_norms = norms.values.new_tensor([self._weight_norms[name, s] for s in shapes])
        return LayerTerms(
            weight_norms * norms.values, weight_norms * norms.errors, weight_norms, norms.values
        )


def layer_score(name: str, role: Role, shape: tuple[int, int], terms: LayerTerms) -> LayerScore:
    """Give the terms of a single candidate as plain numbers."""
    return LayerScore(
        name,
        role,
        shape,
        None if terms.weight_norms is None else float(terms.weight_norms),
        None if terms.grad_norms is None else float(terms.grad_norms),
        float(terms.values),
    )
