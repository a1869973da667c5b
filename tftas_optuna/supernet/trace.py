"""What one forward and backward pass leaves behind at each counted linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Role = Literal["attention", "mlp", "head"]


class LinearTrace(NamedTuple):
    """One linear layer of several candidates, in the back-propagation of the summed logits.

    The gradient of candidate ``i``'s weights is ``delta[i].T @ x[i]``, and it is never formed
    here. Candidates may be narrower than the arrays; what they lack is zero.

    Attributes:
        name: Name of the layer, as in the stand-alone network.
        role: What the layer does; indicators weigh roles differently.
        shapes: Shape of each candidate's own weights, (out, in).
        weight: Gives the absolute weights of a candidate, (out, in), by their shape.
        x: Inputs, shape (candidates, tokens, in).
        delta: Gradients of the summed logits with respect to the outputs, shape (candidates,
            tokens, out).
        members: Places of the candidates in the pass, shape (candidates,); None for the first.
    """

    name: str
    role: Role
    shapes: list[tuple[int, int]]
    weight: Callable[[int, int], Tensor]
    x: Tensor
    delta: Tensor
    members: Tensor | None = None
