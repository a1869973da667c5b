"""The inputs and output gradients that a pass through the supernet yields for linear layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

Role = Literal["attention", "mlp", "head"]


class Weights(Protocol):
    """The absolute weights of a few layers of one shape; candidates use upper left corners."""

    def scale(self, into: int) -> float:
        """Return the factor that corners with this number of inputs are multiplied by."""

    def whole(self, layer: int, out: int, into: int) -> Tensor:
        """Return a corner of one layer, shape (out, in)."""

    def through(self, delta: Tensor, into: int) -> Tensor:
        """Return the products of rows with the corners.

        Args:
            delta: The rows, shape (layers, rows, out).
            into: Number of inputs.

        Returns:
            Shape (layers, rows, in).
        """


class PlainWeights:
    """Absolute weights as they are.

    Args:
        weights: Shape (layers, out, in).
    """

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights

    def scale(self, into: int) -> float:
        """Return 1: corners are as they are."""
        return 1.0

    def whole(self, layer: int, out: int, into: int) -> Tensor:
        """Return a corner of one layer; see :meth:`Weights.whole`."""
        return self._weights[layer, :out, :into]

    def through(self, delta: Tensor, into: int) -> Tensor:
        """Return the products of rows with the corners; see :meth:`Weights.through`."""
        return torch.bmm(delta, self._weights[:, : delta.shape[2], :into])


class LinearTrace(NamedTuple):
    """Linear layers of several candidates, in the back-propagation of the summed logits.

    They are one layer, or the same layer of several blocks, which are then folded at once. The
    gradient of the weights of candidate ``i`` in layer ``l`` is ``delta[l, i].T @ x[l, i]``; it
    is not computed here. Candidates may be narrower than the tensors, which are zero beyond a
    candidate's width.

    Attributes:
        names: Names of the layers, as in the stand-alone network.
        role: The part of the network that the layers belong to; indicators weight roles
            differently.
        shapes: For each layer, the shape of each candidate's own weights, (out, in).
        weights: The absolute weights.
        x: Inputs, shape (layers, candidates, tokens, in).
        delta: Gradients of the summed logits with respect to the outputs, shape (layers,
            candidates, tokens, out).
        members: Positions of the candidates in the pass, shape (candidates,); None if they are
            the first ones.
        places: Positions of the layers in the network, from the first to the last; empty if
            traces come from the last layer to the first.
        depths: Numbers of blocks that all candidates have, if layers of the same name have other
            weights in deeper or shallower candidates; otherwise empty.
    """

    names: Sequence[str]
    role: Role
    shapes: Sequence[Sequence[tuple[int, int]]]
    weights: Weights
    x: Tensor
    delta: Tensor
    members: Tensor | None = None
    places: Sequence[int] = ()
    depths: tuple[int, ...] = ()
