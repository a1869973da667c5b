"""The steps of a pass through a PiT, forward and backward, each for candidates of one shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F

from tftas_optuna.supernet.attention import Attention, HeadGroup
from tftas_optuna.supernet.layers import LayerNorm
from tftas_optuna.supernet.trace import LinearTrace

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from tftas_optuna.supernet.linear import CentredLinear
    from tftas_optuna.supernet.pit.patches import Patches
    from tftas_optuna.supernet.trace import Role

LAYER_NORM_EPS = 1e-6


class BlockWeights(NamedTuple):
    """Absolute weights of one block of the supernet, at full size.

    Rows of ``qkv`` are ordered (unit, query/key/value), so that less width is a prefix.
    """

    norm1: tuple[Tensor, Tensor]
    qkv: CentredLinear
    proj: CentredLinear
    norm2: tuple[Tensor, Tensor]
    fc1: CentredLinear
    fc2: CentredLinear


class PoolWeights(NamedTuple):
    """Absolute weights between two stages of the supernet, at full size."""

    weight: Tensor
    bias: Tensor
    fc: CentredLinear


class Step(Protocol):
    """A part of the network; tokens have the shape (candidates, tokens, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the candidates, and keep what the way back needs."""

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers, the last one first; return the gradient of what came in."""


class Pooling:
    """What lies between two stages: a convolution of the patches, a layer of the class token.

    Args:
        stage: The stage that it leads into.
        weights: The supernet's.
        patches: The patches.
        width: Width of the stage that it leads into.
        members: Places of the candidates in the pass, shape (candidates,).
    """

    def __init__(
        self, stage: int, weights: PoolWeights, patches: Patches, width: int, members: Tensor
    ) -> None:
        self._stage = stage
        self._weights = weights
        self._patches = patches
        self._width = width
        self._members = members

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, fc = self._weights
        self._first, self._before = x[:, :1], x[:, 1:]
        self._convolution = self._patches.convolution(
            self._stage, weight[: self._width], bias[: self._width]
        )
        after = self._convolution.forward(self._before)
        return torch.cat((fc.forward(self._first, self._width), after), 1)

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        fc, before = self._weights.fc, self._first.shape[2]
        delta = grad[:, :1]
        yield _trace(
            f"transformers.{self._stage}.pool.fc", "mlp", fc, self._first, delta, self._members
        )
        patches = self._convolution.backward(grad[:, 1:], self._before)
        return torch.cat((fc.backward(delta, before), patches), 1)


class _MLP(NamedTuple):
    """What the backward pass needs of the MLPs of one hidden width that were run."""

    rows: list[int] | slice
    x: Tensor
    hidden: Tensor
    activated: Tensor


class _Block(NamedTuple):
    """What the backward pass needs of a block that was run."""

    norm1: LayerNorm
    attention: Attention
    norm2: LayerNorm
    mlps: list[_MLP]


class Blocks:
    """The blocks of a stage.

    The mean of every token is carried beside it, because normalisations ignore it and only the
    convolutions between the stages read it.

    Args:
        stage: The stage.
        weights: The supernet's blocks.
        depths: Blocks of each candidate, most first.
        head_dim: Width of a head.
        hidden_dims: Hidden width of each candidate's MLPs.
        key_weights: Logarithms of how many tokens each stands for, or None.
        members: Places of the candidates in the pass, shape (candidates,).
    """

    def __init__(
        self,
        stage: int,
        weights: Sequence[BlockWeights],
        depths: Sequence[int],
        head_dim: int,
        hidden_dims: Sequence[int],
        key_weights: Tensor | None,
        members: Tensor,
    ) -> None:
        self._name = f"transformers.{stage}.blocks"
        self._weights = weights
        self._depths = depths
        self._head_dim = head_dim
        self._hidden_dims = hidden_dims
        self._key_weights = key_weights
        self._members = members
        self._done: list[_Block] = []

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(2, keepdim=True)
        x = x - mean
        finished: list[Tensor] = []
        for i in range(self._depths[0]):
            active = self._active(i)
            finished.insert(0, x[active:] + mean[active:])
            x, mean, block = self._run(self._weights[i], x[:active], mean[:active])
            self._done.append(block)
        return torch.cat((x + mean, *finished))

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        # All that the means lead to is the end of the stage.
        totals = grad.sum(2, keepdim=True)
        found = grad[:0]
        while self._done:
            i = len(self._done) - 1
            active = self._active(i)
            found = torch.cat((found, grad[len(found) : active]))
            found = yield from self._back(i, self._done.pop(), found, totals[:active])
        return found - found.mean(2, keepdim=True) + totals / grad.shape[2]

    def _active(self, i: int) -> int:
        return sum(depth > i for depth in self._depths)

    def _run(
        self, weights: BlockWeights, x: Tensor, mean: Tensor
    ) -> tuple[Tensor, Tensor, _Block]:
        width = x.shape[2]
        heads = HeadGroup(slice(None), width // self._head_dim, self._head_dim, by_head=False)
        norm1 = LayerNorm.run(x, weights.norm1, LAYER_NORM_EPS)
        qkv = weights.qkv.forward(norm1.out, 3 * width)
        attention = Attention(qkv, heads, self._key_weights)
        x = weights.proj.forward(attention.out, width).add_(x)
        mean = mean + weights.proj.shift(attention.out)
        norm2 = LayerNorm.run(x, weights.norm2, LAYER_NORM_EPS)
        mlps = []
        added, shift = torch.empty_like(x), torch.empty_like(mean)
        for hidden_dim, rows in self._by_hidden_dim(len(x)):
            inputs = norm2.out[rows]
            hidden = weights.fc1.forward(inputs, hidden_dim)
            activated = F.gelu(hidden)
            added[rows] = weights.fc2.forward(activated, width)
            shift[rows] = weights.fc2.shift(activated)
            mlps.append(_MLP(rows, inputs, hidden, activated))
        return added.add_(x), mean + shift, _Block(norm1, attention, norm2, mlps)

    def _by_hidden_dim(self, active: int) -> list[tuple[int, list[int] | slice]]:
        """List hidden widths, each with the rows of the active candidates that have it."""
        rows: dict[int, list[int]] = {}
        for i, hidden_dim in enumerate(self._hidden_dims[:active]):
            rows.setdefault(hidden_dim, []).append(i)
        return [(width, _sliced(own)) for width, own in rows.items()]

    def _back(
        self, i: int, block: _Block, grad: Tensor, totals: Tensor
    ) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers of a block, and return the gradient before it."""
        name, width = f"{self._name}.{i}", grad.shape[2]
        weights, members = self._weights[i], self._members[: len(grad)]
        norm1, attention, norm2, mlps = block
        fc1, fc2, proj, qkv = weights.fc1, weights.fc2, weights.proj, weights.qkv
        joined = torch.empty_like(grad)
        for rows, x, hidden, activated in mlps:
            delta, hidden_dim = grad[rows], hidden.shape[2]
            yield _trace(f"{name}.mlp.fc2", "mlp", fc2, activated, delta, members[rows])
            delta = fc2.backward(delta, hidden_dim)
            delta.add_(fc2.shift_back(totals[rows], hidden_dim))
            torch.ops.aten.gelu_backward.grad_input(delta, hidden, grad_input=delta)
            yield _trace(f"{name}.mlp.fc1", "mlp", fc1, x, delta, members[rows])
            joined[rows] = fc1.backward(delta, width)
        grad = norm2.backward(joined).add_(grad)

        yield _trace(f"{name}.attn.proj", "attention", proj, attention.out, grad, members)
        delta = proj.backward(grad, width).add_(proj.shift_back(totals, width))
        delta = attention.backward(delta)
        yield _trace(f"{name}.attn.qkv", "attention", qkv, norm1.out, delta, members)
        return norm1.backward(qkv.backward(delta, width)).add_(grad)


class Classifier:
    """The end of the network: normalisation of the class token, and the logits.

    Args:
        norm: Weight and bias of the normalisation.
        head: The classifier.
        members: Places of the candidates in the pass, shape (candidates,).
    """

    def __init__(self, norm: tuple[Tensor, Tensor], head: CentredLinear, members: Tensor) -> None:
        self._weights = norm
        self._head = head
        self._members = members

    def forward(self, x: Tensor) -> Tensor:
        self._tokens = x.shape[1]
        self._norm = LayerNorm.run(x[:, :1], self._weights, LAYER_NORM_EPS)
        return self._head.forward(self._norm.out)

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        x = self._norm.out
        yield _trace("head", "head", self._head, x, grad, self._members)
        first = self._norm.backward(self._head.backward(grad, x.shape[2]))
        return F.pad(first, (0, 0, 0, self._tokens - 1))


def _sliced(rows: list[int]) -> list[int] | slice:
    """Turn rows that follow each other into a slice, which copies nothing."""
    apart = rows[-1] - rows[0] >= len(rows)
    return rows if apart else slice(rows[0], rows[-1] + 1)


def _trace(
    name: str, role: Role, layer: CentredLinear, x: Tensor, delta: Tensor, members: Tensor
) -> LinearTrace:
    shapes = [(delta.shape[2], x.shape[2])] * len(x)
    return LinearTrace(name, role, shapes, layer.whole, x, delta, members)
