"""The linear layers of a pass, and their contributions to a score."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from tftas_optuna.passes.gradient import Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from tftas_optuna.passes.gradient import Gradients
    from tftas_optuna.supernet.trace import Role, Weights


class Layer(NamedTuple):
    """Linear layers of several candidates after a pass: one, or several of one shape.

    Attributes:
        names: Names of the layers in the stand-alone network.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        shapes: For each layer, the shape of each candidate's weights, (out, in); (0, 0) for a
            candidate that lacks the layer.
        weights: The absolute weights.
        gradients: Gradients of the summed logits with respect to the weights.
    """

    names: Sequence[str]
    role: Role
    shapes: Sequence[Sequence[tuple[int, int]]]
    weights: Weights
    gradients: Gradients


class LayerTerms(NamedTuple):
    """The terms that layers add to the scores of candidates; all shapes (layers, candidates).

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
    def of(cls, layer: Layer, terms: LayerTerms) -> list[LayerScore]:
        """Make the contributions from the terms of a single candidate."""
        columns = [
            [None] * len(layer.names) if column is None else column[:, 0].tolist()
            for column in (terms.weight_norms, terms.grad_norms, terms.values)
        ]
        shapes = [shape for (shape,) in layer.shapes]
        return [
            cls(name, layer.role, *rest)
            for name, *rest in zip(layer.names, shapes, *columns, strict=True)
        ]


# Cached norms of the weights of one supernet, by layer, shape and norm.
Norms = dict[tuple[str, tuple[int, int], "Callable[[Tensor], Tensor]"], float]


def weight_norms(
    layer: Layer,
    shapes: Sequence[Sequence[tuple[int, int]]],
    norms: Norms,
    norm: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return norms of weights of the given shapes, from ``norms`` those that are there.

    Args:
        layer: The layers.
        shapes: For each layer, some shapes (out, in); (0, 0) has the norm 0.
        norms: The cache.
        norm: The norm of a matrix, always the same object for one norm.

    Returns:
        One norm for each shape, shape (layers, shapes), float64.
    """
    rows = []
    for i, (name, each) in enumerate(zip(layer.names, shapes, strict=True)):
        for shape in each:
            if (name, shape, norm) not in norms:
                exists = all(shape)
                value = float(norm(layer.weights.whole(i, *shape))) if exists else 0.0
                norms[name, shape, norm] = value
        rows.append([norms[name, shape, norm] for shape in each])
    return torch.tensor(rows, dtype=torch.float64, device=layer.gradients.device)


def saliencies(layer: Layer, norms: Norms) -> Sums:
    """Return the sums of ``|gradient * weight|`` over the entries of layers."""
    gradients, weights = layer.gradients, layer.weights
    out, into = gradients.shape
    sums = gradients.saliencies(
        weights,
        layer.shapes,
        lambda: weight_norms(
            layer, [[(out, into)]] * len(layer.names), norms, torch.linalg.vector_norm
        )[:, 0],
    )
    if weights.scale(1) == 1:
        return sums
    # Slices are scaled to their own number of inputs, here to that of the tensors.
    scale = weights.scale(into)
    factors = [[weights.scale(i or into) / scale for _, i in each] for each in layer.shapes]
    column = sums.values.new_tensor(factors)
    return Sums(sums.values * column, sums.errors * column)


def nothing(layer: Layer) -> LayerTerms:
    """Return terms of zero, for layers that an indicator does not count."""
    zeros = torch.zeros(
        len(layer.names), len(layer.shapes[0]), dtype=torch.float64, device=layer.gradients.device
    )
    return LayerTerms(zeros, zeros)


def n_weights(layer: Layer) -> Tensor:
    """Return the number of weights of each candidate, shape (layers, candidates), float64.

    It is 1 for a candidate that lacks the layer.
    """
    counts = [[max(out * into, 1) for out, into in each] for each in layer.shapes]
    return torch.tensor(counts, dtype=torch.float64, device=layer.gradients.device)
