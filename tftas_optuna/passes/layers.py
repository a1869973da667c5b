"""What a pass leaves of each linear layer, and what a layer adds to a score."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from tftas_optuna.passes.gradient import Gradients, Sums
    from tftas_optuna.supernet.trace import Role


class Layer(NamedTuple):
    """One linear layer of several candidates, as a pass left it.

    Attributes:
        name: Name of the layer in the stand-alone network.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        shapes: Shape of each candidate's weights, (out, in).
        weight: Returns the absolute weights of a candidate, (out, in), by their shape.
        gradients: Gradients of the summed logits with respect to the weights.
    """

    name: str
    role: Role
    shapes: Sequence[tuple[int, int]]
    weight: Callable[[int, int], Tensor]
    gradients: Gradients


class LayerTerms(NamedTuple):
    """What one layer of several candidates adds to their scores; all shapes (candidates,).

    Attributes:
        values: The terms.
        errors: Bounds on how far each may be off.
        weight_norms: Norms of the weights, where the term is made of them; else None.
        grad_norms: Norms of the gradients, where the term is made of them; else None.
    """

    values: Tensor
    errors: Tensor
    weight_norms: Tensor | None = None
    grad_norms: Tensor | None = None


class LayerScore(NamedTuple):
    """Contribution of one layer to a score.

    Attributes:
        name: Name of the layer in the stand-alone network.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        shape: Shape of its weights, (out, in).
        weight_norm: Norm of the weights, where the value is made of it; else None.
        grad_norm: Norm of the gradient, where the value is made of it; else None.
        value: What it adds to the score.
    """

    name: str
    role: Role
    shape: tuple[int, int]
    weight_norm: float | None
    grad_norm: float | None
    value: float

    @classmethod
    def of(cls, layer: Layer, terms: LayerTerms) -> LayerScore:
        """Turn the terms of a single candidate into plain numbers."""
        return cls(
            layer.name,
            layer.role,
            layer.shapes[0],
            None if terms.weight_norms is None else float(terms.weight_norms),
            None if terms.grad_norms is None else float(terms.grad_norms),
            float(terms.values),
        )


# Norms of the weights of one supernet, by layer and shape: computed once.
Norms = dict[tuple[str, tuple[int, int]], float]


def weight_norm(
    layer: Layer, shape: tuple[int, int], norms: Norms, norm: Callable[[Tensor], Tensor]
) -> float:
    """Look a norm of a layer's weights up, or compute it."""
    if (layer.name, shape) not in norms:
        norms[layer.name, shape] = float(norm(layer.weight(*shape)))
    return norms[layer.name, shape]


def saliencies(layer: Layer, norms: Norms) -> Sums:
    """Sum ``|gradient * weight|`` over the entries of a layer."""
    out, into = (max(sizes) for sizes in zip(*layer.shapes, strict=True))
    return layer.gradients.saliencies(
        layer.weight(out, into),
        lambda: weight_norm(layer, (out, into), norms, torch.linalg.vector_norm),
    )
