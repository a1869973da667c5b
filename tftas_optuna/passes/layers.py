"""The linear layers of a pass, and their contributions to a score."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from tftas_optuna.passes.gradient import Gradients, Sums
    from tftas_optuna.supernet.trace import Role


class Layer(NamedTuple):
    """One linear layer of several candidates after a pass.

    Attributes:
        name: Name of the layer in the stand-alone network.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        shapes: Shape of each candidate's weights, (out, in).
        weight: Returns the absolute weights of the given shape (out, in).
        gradients: Gradients of the summed logits with respect to the weights.
    """

    name: str
    role: Role
    shapes: Sequence[tuple[int, int]]
    weight: Callable[[int, int], Tensor]
    gradients: Gradients


class LayerTerms(NamedTuple):
    """The terms that one layer adds to the scores of candidates; all shapes (candidates,).

    Attributes:
        values: The terms.
        errors: Bounds on their errors.
        weight_norms: Norms of the weights if the term is computed from them, else None.
        grad_norms: Norms of the gradients if the term is computed from them, else None.
    """

    values: Tensor
    errors: Tensor
    weight_norms: Tensor | None = None
    grad_norms: Tensor | None = None


class LayerScore(NamedTuple):
    """The contribution of one layer to a score.

    Attributes:
        name: Name of the layer in the stand-alone network.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        shape: Shape of its weights, (out, in).
        weight_norm: Norm of the weights if the value is computed from it, else None.
        grad_norm: Norm of the gradient if the value is computed from it, else None.
        value: The term that the layer adds to the score.
    """

    name: str
    role: Role
    shape: tuple[int, int]
    weight_norm: float | None
    grad_norm: float | None
    value: float

    @classmethod
    def of(cls, layer: Layer, terms: LayerTerms) -> LayerScore:
        """Make the contribution from the terms of a single candidate."""
        return cls(
            layer.name,
            layer.role,
            layer.shapes[0],
            None if terms.weight_norms is None else float(terms.weight_norms),
            None if terms.grad_norms is None else float(terms.grad_norms),
            float(terms.values),
        )


# Cached norms of the weights of one supernet, by layer and shape.
Norms = dict[tuple[str, tuple[int, int]], float]


def weight_norm(
    layer: Layer, shape: tuple[int, int], norms: Norms, norm: Callable[[Tensor], Tensor]
) -> float:
    """Return a norm of a layer's weights, from ``norms`` if it is there."""
    if (layer.name, shape) not in norms:
        norms[layer.name, shape] = float(norm(layer.weight(*shape)))
    return norms[layer.name, shape]


def saliencies(layer: Layer, norms: Norms) -> Sums:
    """Return the sums of ``|gradient * weight|`` over the entries of a layer."""
    out, into = (max(sizes) for sizes in zip(*layer.shapes, strict=True))
    return layer.gradients.saliencies(
        layer.weight(out, into),
        lambda: weight_norm(layer, (out, into), norms, torch.linalg.vector_norm),
    )
