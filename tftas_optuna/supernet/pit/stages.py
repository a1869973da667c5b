"""The steps of a pass through a PiT, forward and backward, for candidates of equal width."""

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

    Rows of ``qkv`` are ordered (unit, query/key/value), so that a smaller width is a prefix.
    """

    norm1: tuple[Tensor, Tensor]
    qkv: CentredLinear
    proj: CentredLinear
    norm2: tuple[Tensor, Tensor]
    fc1: CentredLinear
    fc2: CentredLinear


class PoolWeights(NamedTuple):
    """Absolute weights of the pooling between two stages of the supernet, at full size."""

    weight: Tensor
    bias: Tensor
    fc: CentredLinear


class Step(Protocol):
    """A part of the network; its tokens have the shape (candidates, tokens, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, and keep what the backward pass needs."""

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers, the last one first, and return the gradient of the inputs."""


class Pooling:
    """The pooling between two stages: a convolution of the patches, a layer of the class token.

    Args:
        stage: Index of the stage after the pooling.
        weights: Weights of the supernet.
        patches: The patches of the image.
        width: Width of the stage after the pooling.
        members: Positions of the candidates in the pass, shape (candidates,).
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
    """The forward results of the MLPs of one hidden width that the backward pass needs."""

    rows: list[int] | slice
    x: Tensor
    hidden: Tensor
    activated: Tensor


class _Block(NamedTuple):
    """The results of a block's forward pass that its backward pass needs."""

    norm1: LayerNorm
    attention: Attention
    norm2: LayerNorm
    mlps: list[_MLP]


class Blocks:
    """The blocks of a stage.

    The mean of every token is kept apart from it, because only the convolutions between the
    stages use it; normalisations ignore it.

    Args:
        stage: Index of the stage.
        weights: Weights of the blocks of the supernet.
        depths: Number of blocks of each candidate, in descending order.
        head_dim: Width of a head.
        hidden_dims: Hidden width of each candidate's MLPs.
        key_weights: Logarithm of the number of patches that each token stands for, or None.
        members: Positions of the candidates in the pass, shape (candidates,).
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
        self._blocks: list[_Block] = []

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(2, keepdim=True)
        x = x - mean
        finished: list[Tensor] = []
        for i in range(self._depths[0]):
            active = self._active(i)
            finished.insert(0, x[active:] + mean[active:])
            x, mean, block = self._run(self._weights[i], x[:active], mean[:active])
            self._blocks.append(block)
        return torch.cat((x + mean, *finished))

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        # The means bypass the blocks: they only reach the output of the stage.
        totals = grad.sum(2, keepdim=True)
        current = grad[:0]
        while self._blocks:
            i = len(self._blocks) - 1
            active = self._active(i)
            current = torch.cat((current, grad[len(current) : active]))
            current = yield from self._back(i, self._blocks.pop(), current, totals[:active])
        return current - current.mean(2, keepdim=True) + totals / grad.shape[2]

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
        """Return the hidden widths, each with the rows of the active candidates that have it."""
        rows: dict[int, list[int]] = {}
        for i, hidden_dim in enumerate(self._hidden_dims[:active]):
            rows.setdefault(hidden_dim, []).append(i)
        return [(width, _sliced(indices)) for width, indices in rows.items()]

    def _back(
        self, i: int, block: _Block, grad: Tensor, totals: Tensor
    ) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers of a block, and return the gradient of its input."""
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
    """The end of the network: the normalised class token, and the logits.

    Args:
        norm: Weight and bias of the normalisation.
        head: The classifier.
        members: Positions of the candidates in the pass, shape (candidates,).
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
    """Return consecutive rows as a slice, which makes no copy when it indexes a tensor."""
    has_gaps = rows[-1] - rows[0] >= len(rows)
    return rows if has_gaps else slice(rows[0], rows[-1] + 1)


def _trace(
    name: str, role: Role, layer: CentredLinear, x: Tensor, delta: Tensor, members: Tensor
) -> LinearTrace:
    shapes = [(delta.shape[2], x.shape[2])] * len(x)
    return LinearTrace(name, role, shapes, layer.whole, x, delta, members)
