"""The steps of a pass through a PiT, forward and backward, for candidates with the same heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F

from tftas_optuna.supernet.attention import Attention, HeadGroup
from tftas_optuna.supernet.layers import LayerNorm
from tftas_optuna.supernet.stacks import Blocks, widths_of
from tftas_optuna.supernet.trace import LinearTrace

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

    from tftas_optuna.supernet.linear import LinearStack, Scale
    from tftas_optuna.supernet.pit.batch import StageBatch
    from tftas_optuna.supernet.pit.patches import Patches
    from tftas_optuna.supernet.trace import Role

LAYER_NORM_EPS = 1e-6


class StageWeights(NamedTuple):
    """Absolute weights of the blocks of one stage of the supernet, at full size.

    Attributes:
        linears: The linear layers of the blocks. Rows of ``attn.qkv`` are ordered (unit,
            query/key/value), so that a smaller width is a prefix.
        norms: Weight and bias of both normalisations of each block.
    """

    linears: dict[str, LinearStack]
    norms: list[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]


class PoolWeights(NamedTuple):
    """Absolute weights of the pooling between two stages of the supernet, at full size."""

    weight: Tensor
    bias: Tensor
    fc: LinearStack


class Step(Protocol):
    """A part of the network; its tokens have the shape (candidates, tokens, width)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, and keep what the backward pass needs."""

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers, the last one first, and return the gradient of the inputs."""


class Order(NamedTuple):
    """The order of the candidates of a stage.

    Attributes:
        moves: Their positions in the order of the stage before, shape (candidates,).
    """

    moves: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x[self.moves]

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        yield from ()
        return torch.empty_like(grad).index_copy_(0, self.moves, grad)


class Pooling:
    """The pooling between two stages: a convolution of the patches, a layer of the class token.

    Args:
        stage: Index of the stage after the pooling.
        weights: Weights of the supernet.
        patches: The patches of the image.
        width: Width of the stage after the pooling.
        members: Positions of the candidates in the pass; None if they are in its order.
        place: Position of the linear layer in the network.
    """

    def __init__(
        self,
        stage: int,
        weights: PoolWeights,
        patches: Patches,
        width: int,
        members: Tensor | None,
        place: int,
    ) -> None:
        self._stage = stage
        self._weights = weights
        self._patches = patches
        self._width = width
        self._members = members
        self._place = place

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, fc = self._weights
        self._first, self._before = x[:, :1], x[:, 1:]
        self._convolution = self._patches.convolution(
            self._stage, weight[: self._width], bias[: self._width]
        )
        after = self._convolution.forward(self._before)
        scale = fc.scale(x.shape[2])
        return torch.cat((fc.layers[0].forward(self._first, self._width, scale=scale), after), 1)

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        fc, before = self._weights.fc, self._first.shape[2]
        delta = grad[:, :1]
        name = f"transformers.{self._stage}.pool.fc"
        yield _alone(name, "mlp", fc, self._first, delta, self._members, self._place)
        patches = self._convolution.backward(grad[:, 1:], self._before)
        first = fc.layers[0].backward(delta, before, fc.scale(before))
        return torch.cat((first, patches), 1)


class _Block(NamedTuple):
    """The results of a block's forward pass that its backward pass needs."""

    norm1: LayerNorm
    attention: Attention
    norm2: LayerNorm
    hidden: Tensor
    activated: Tensor


class Stage:
    """The blocks of a stage.

    The mean of every token is kept apart from it, because only the convolutions between the
    stages use it; normalisations ignore it.

    Args:
        stage: Index of the stage.
        weights: Weights of the blocks of the supernet.
        batch: What each candidate uses of the tensors.
        key_weights: Logarithm of the number of patches that each token stands for, or None.
        place: Position of the first layer in the network.
        stacked: Whether to yield the layers of several blocks together.
    """

    def __init__(
        self,
        stage: int,
        weights: StageWeights,
        batch: StageBatch,
        key_weights: Tensor | None,
        place: int,
        *,
        stacked: bool,
    ) -> None:
        self._name = f"transformers.{stage}.blocks"
        self._weights = weights
        self._batch = batch
        self._frame = batch.frame
        self._key_weights = key_weights
        self._place = place
        self._stacked = stacked
        self._scale = weights.linears["attn.qkv"].scale(self._frame.width)
        self._blocks: list[_Block] = []

    def forward(self, x: Tensor) -> Tensor:
        frame = self._frame
        self._layers = Blocks(
            self._weights.linears,
            self._name,
            frame.active,
            place=self._place,
            members=self._batch.members,
            n_tokens=x.shape[1],
            widths=(
                widths_of(frame.width, frame.width, frame.hidden_dim) if self._stacked else None
            ),
        )
        mean = x.mean(2, keepdim=True)
        x = x - mean
        finished: list[Tensor] = []
        for i, active in enumerate(frame.active):
            if active < len(x):
                finished.insert(0, x[active:] + mean[active:])
            x, mean, block = self._forward(i, x[:active], mean[:active])
            self._blocks.append(block)
        return torch.cat((x + mean, *finished)) if finished else x + mean

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        # The means bypass the blocks: they only reach the output of the stage.
        totals = grad.sum(2, keepdim=True)
        current = grad[:0]
        while self._blocks:
            i = len(self._blocks) - 1
            active = self._frame.active[i]
            current = self._layers.joined(i, current, grad[len(current) : active])
            current = yield from self._backward(i, self._blocks.pop(), current, totals[:active])
            yield from self._layers.ended(i)
        return current - current.mean(2, keepdim=True) + totals / grad.shape[2]

    def _forward(self, i: int, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, _Block]:
        frame, scale, count = self._frame, self._scale, len(x)
        linears = {name: stack.layers[i] for name, stack in self._weights.linears.items()}
        norm1, norm2 = self._weights.norms[i]
        live = None if self._batch.live is None else self._batch.live[i]
        within = None if live is None else live.unsqueeze(3)
        heads = HeadGroup(
            slice(None), frame.num_heads, frame.width // frame.num_heads, False, within
        )
        first = self._normalise(x, norm1, self._layers.room(i, "attn.qkv", "x"))
        qkv = linears["attn.qkv"].forward(first.out, 3 * frame.width, scale=scale)
        room = self._layers.room(i, "attn.proj", "x")
        attention = Attention(qkv, heads, self._key_weights, room)
        x = _added(x, linears["attn.proj"].forward(attention.out, frame.width, scale=scale), live)
        mean = mean + linears["attn.proj"].shift(attention.out, scale)
        second = self._normalise(x, norm2, self._layers.room(i, "mlp.fc1", "x"))
        hidden = linears["mlp.fc1"].forward(second.out, frame.hidden_dim, scale=scale)
        room = self._layers.room(i, "mlp.fc2", "x")
        activated = _within(F.gelu(hidden), self._hidden(count, live), room)
        down, fc2 = self._scale_down(count), linears["mlp.fc2"]
        x = _added(x, fc2.forward(activated, frame.width, scale=down), live)
        mean = mean + fc2.shift(activated, down)
        return x, mean, _Block(first, attention, second, hidden, activated)

    def _backward(
        self, i: int, block: _Block, grad: Tensor, totals: Tensor
    ) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers of a block, and return the gradient of its input."""
        layers, width, scale, count = self._layers, self._frame.width, self._scale, len(grad)
        linears = {name: stack.layers[i] for name, stack in self._weights.linears.items()}
        live = None if self._batch.live is None else self._batch.live[i]
        norm1, attention, norm2, hidden, activated = block
        yield from layers.layer(i, "mlp.fc2", activated, grad)
        down, fc2 = self._scale_down(count), linears["mlp.fc2"]
        delta = fc2.backward(grad, hidden.shape[2], down).add_(fc2.shift_back(totals, down))
        torch.ops.aten.gelu_backward.grad_input(delta, hidden, grad_input=delta)
        delta = _within(delta, self._hidden(count, live), layers.room(i, "mlp.fc1", "delta"))
        yield from layers.layer(i, "mlp.fc1", norm2.out, delta)
        room = layers.room(i, "attn.proj", "delta")
        grad = norm2.backward(linears["mlp.fc1"].backward(delta, width, scale), grad, room)

        yield from layers.layer(i, "attn.proj", attention.out, grad)
        proj = linears["attn.proj"]
        delta = proj.backward(grad, width, scale).add_(proj.shift_back(totals, scale))
        delta = attention.backward(delta, layers.room(i, "attn.qkv", "delta"))
        yield from layers.layer(i, "attn.qkv", norm1.out, delta)
        room = layers.room(i - 1, "mlp.fc2", "delta") if i else None
        # More candidates may have the block before this one.
        room = None if room is None else room[:count]
        return norm1.backward(linears["attn.qkv"].backward(delta, width, scale), grad, room)

    def _normalise(
        self, x: Tensor, weights: tuple[Tensor, Tensor], room: Tensor | None
    ) -> LayerNorm:
        norm = LayerNorm.run(x, weights, LAYER_NORM_EPS)
        return norm if room is None else norm._replace(out=room.copy_(norm.out))

    def _hidden(self, count: int, live: Tensor | None) -> Tensor | None:
        """Return the mask of the hidden units of the first candidates in a block."""
        if self._batch.hidden is None:
            return live
        mask = self._batch.hidden[:count]
        return mask if live is None else mask * live

    def _scale_down(self, count: int) -> Scale:
        """Return the factors of the second layer of the MLPs of the first candidates."""
        down = self._weights.linears["mlp.fc2"]
        if self._batch.hidden is None or down.scale(1) == 1:
            return down.scale(self._frame.hidden_dim)
        return down.scale(1) * self._batch.hidden_dims[:count].rsqrt()


class Classifier:
    """The end of the network: the normalised class token, and the logits.

    Args:
        norm: Weight and bias of the normalisation.
        head: The classifier.
        members: Positions of the candidates in the pass; None if they are in its order.
        place: Position of the classifier in the network.
    """

    def __init__(
        self,
        norm: tuple[Tensor, Tensor],
        head: LinearStack,
        members: Tensor | None,
        place: int,
    ) -> None:
        self._weights = norm
        self._head = head
        self._members = members
        self._place = place

    def forward(self, x: Tensor) -> Tensor:
        self._tokens = x.shape[1]
        self._norm = LayerNorm.run(x[:, :1], self._weights, LAYER_NORM_EPS)
        return self._head.layers[0].forward(self._norm.out, scale=self._head.scale(x.shape[2]))

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        x, head = self._norm.out, self._head
        yield _alone("head", "head", head, x, grad, self._members, self._place)
        grad = head.layers[0].backward(grad, x.shape[2], head.scale(x.shape[2]))
        return F.pad(self._norm.backward(grad), (0, 0, 0, self._tokens - 1))


def _within(x: Tensor, mask: Tensor | None, room: Tensor | None) -> Tensor:
    """Apply a mask, and write the result where it belongs."""
    if mask is None:
        return x if room is None else room.copy_(x)
    return torch.mul(x, mask, out=x if room is None else room)


def _added(x: Tensor, change: Tensor, live: Tensor | None) -> Tensor:
    """Add to the residual stream of the candidates that have a block."""
    return change.add_(x) if live is None else torch.addcmul(x, change, live)


def _alone(
    name: str,
    role: Role,
    layer: LinearStack,
    x: Tensor,
    delta: Tensor,
    members: Tensor | None,
    place: int,
) -> LinearTrace:
    """Trace a layer outside of the blocks."""
    return LinearTrace([name], role, (), layer[:1], x[None], delta[None], members, [place])
