"""The linear layers of consecutive blocks, which a pass yields one by one or in stacks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from tftas_optuna.supernet.trace import LinearTrace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from tftas_optuna.supernet.linear import CentredLinear, LinearStack
    from tftas_optuna.supernet.trace import Role

# The linear layers of a block in their order, and the part of the network that they belong to.
LAYERS: dict[str, Role] = {
    "attn.qkv": "attention",
    "attn.proj": "attention",
    "mlp.fc1": "mlp",
    "mlp.fc2": "mlp",
}


def widths_of(width: int, inner: int, hidden_dim: int) -> dict[tuple[str, str], int]:
    """Return the widths of the inputs and output gradients of the layers of a block."""
    return {
        ("attn.qkv", "x"): width,
        ("attn.qkv", "delta"): 3 * inner,
        ("attn.proj", "x"): inner,
        ("attn.proj", "delta"): width,
        ("mlp.fc1", "x"): width,
        ("mlp.fc1", "delta"): hidden_dim,
        ("mlp.fc2", "x"): hidden_dim,
        ("mlp.fc2", "delta"): width,
    }


class Blocks:
    """The linear layers of consecutive blocks in a pass.

    Blocks of a stack that the same candidates have are yielded together, others one by one.

    Args:
        linears: The weights of the layers.
        name: Name of the blocks in the stand-alone network.
        active: Number of candidates that have each block; they are the first ones.
        place: Position of the first layer in the network.
        members: Positions of the candidates in the pass; None if they are in its order.
        n_tokens: Number of tokens of a candidate.
        widths: Where all blocks have tensors of one shape, what :func:`widths_of` returns; the
            layers are then yielded in stacks. Otherwise None.
    """

    def __init__(
        self,
        linears: Mapping[str, LinearStack],
        name: str,
        active: Sequence[int],
        *,
        place: int,
        members: Tensor | None,
        n_tokens: int,
        widths: Mapping[tuple[str, str], int] | None,
    ) -> None:
        self._linears = linears
        self._name = name
        self._active = active
        self._place = place
        self._members = members
        self._end = len(active)
        self._stacks: dict[tuple[str, str], Tensor] = {}
        if widths is not None:
            # One tensor for all of them: many of their size would be given back to the system,
            # which takes longer to provide them again than it takes to fill them.
            shape = len(active), active[0], n_tokens
            rows = math.prod(shape)
            room = linears["attn.qkv"].empty(rows * sum(widths.values()))
            parts = room.split([rows * width for width in widths.values()])
            for (key, width), part in zip(widths.items(), parts, strict=True):
                self._stacks[key] = part.view(*shape, width)

    def room(self, i: int, name: str, what: str) -> Tensor | None:
        """Return where the inputs or output gradients of a layer belong, if that is a stack.

        Args:
            i: The block.
            name: The layer.
            what: ``"x"`` or ``"delta"``.
        """
        stack = self._stacks.get((name, what))
        return None if stack is None else stack[i, : self._active[i]]

    def before(self, i: int, count: int) -> Tensor | None:
        """Return where the gradient of a block's input belongs, if that is a stack.

        It is that of the output of the block before, which more candidates may have.

        Args:
            i: The block.
            count: Number of candidates that have it.
        """
        room = self.room(i - 1, "mlp.fc2", "delta") if i else None
        return None if room is None else room[:count]

    def linears(self, i: int) -> dict[str, CentredLinear]:
        """Return the layers of a block by name."""
        return {name: stack.layers[i] for name, stack in self._linears.items()}

    def joined(self, i: int, grad: Tensor, joining: Tensor) -> Tensor:
        """Append to the gradients of a block's output those of candidates that end with it."""
        if not len(joining):
            return grad
        room = self.room(i, "mlp.fc2", "delta")
        if room is None:
            return torch.cat((grad, joining))
        room[len(grad) :] = joining
        return room

    def layer(self, i: int, name: str, x: Tensor, delta: Tensor) -> Iterator[LinearTrace]:
        """Yield a layer of one block, unless it is in a stack."""
        if not self._stacks:
            yield self._trace(name, slice(i, i + 1), x[None], delta[None])

    def ended(self, i: int) -> Iterator[LinearTrace]:
        """Yield the layers of a stack after its first block's backward pass.

        Args:
            i: The block whose backward pass has ended.
        """
        if self._stacks and (i == 0 or self._active[i - 1] > self._active[i]):
            blocks, self._end = slice(i, self._end), i
            for name in reversed(LAYERS):
                x, delta = (
                    self._stacks[name, what][blocks, : self._active[i]] for what in ("x", "delta")
                )
                yield self._trace(name, blocks, x, delta)

    def _trace(self, name: str, blocks: slice, x: Tensor, delta: Tensor) -> LinearTrace:
        numbers = range(blocks.start, blocks.stop)
        place = self._place + list(LAYERS).index(name)
        return LinearTrace(
            [f"{self._name}.{i}.{name}" for i in numbers],
            LAYERS[name],
            (),
            self._linears[name][blocks],
            x,
            delta,
            None if self._members is None else self._members[: x.shape[1]],
            [place + len(LAYERS) * i for i in numbers],
        )
