"""The inputs and output gradients that a pass through the supernet yields for a linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Role = Literal["attention", "mlp", "head"]


class LinearTrace(NamedTuple):
    """One linear layer of several candidates, in the back-propagation of the summed logits.

    The gradient of candidate ``i``'s weights is ``delta[i].T @ x[i]``; it is not computed here.
    Candidates may be narrower than the tensors, which are zero beyond a candidate's width.

    Attributes:
        name: Name of the layer, as in the stand-alone network.
        role: The part of the network that the layer belongs to; indicators weight roles
            differently.
        shapes: Shape of each candidate's own weights, (out, in).
        weight: Function that returns the absolute weights of a given shape (out, in).
        x: Inputs, shape (candidates, tokens, in).
        delta: Gradients of the summed logits with respect to the outputs, shape (candidates,
            tokens, out).
        members: Positions of the candidates in the pass, shape (candidates,); None if they are
            the first ones.
    """

    name: str
    role: Role
    shapes: list[tuple[int, int]]
    weight: Callable[[int, int], Tensor]
    x: Tensor
    delta: Tensor
    members: Tensor | None = None
