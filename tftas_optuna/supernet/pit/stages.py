"""The steps of a pass through a PiT, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F

from tftas_optuna.supernet.attention import Attention, HeadGroup
from tftas_optuna.supernet.layers import added, masked, normalise
from tftas_optuna.supernet.stacks import Blocks, widths_of
from tftas_optuna.supernet.trace import LinearTrace

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

    from tftas_optuna.supernet.layers import Normalised
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
        plain_norms: Whether normalisations have unit weights and zero biases.
    """

    linears: dict[str, LinearStack]
    norms: list[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]
    plain_norms: bool


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
        before: What each candidate uses of the stage before; its order is that of the pooling.
        after: What each candidate uses of the stage after the pooling.
        place: Position of the linear layer in the network.
    """

    def __init__(
        self,
        stage: int,
        weights: PoolWeights,
        patches: Patches,
        before: StageBatch,
        after: StageBatch,
        place: int,
    ) -> None:
        self._stage = stage
        self._weights = weights
        self._patches = patches
        self._members = before.members
        self._into, self._out = before.width, after.width
        self._ratios, self._most = after.ratios, after.frame.ratio
        self._scale = scale_of(weights.fc, before)
        self._place = place

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, fc = self._weights
        self._first, patches = x[:, :1], x[:, 1:]
        if self._ratios is not None:
            # The input channel of each output channel.
            channels = torch.arange(self._out, device=x.device) // self._ratios
            patches = _gathered(patches, channels)
        self._before = patches
        self._convolution = self._patches.convolution(
            self._stage, weight[: self._out], bias[: self._out]
        )
        after = self._convolution.forward(patches)
        first = fc.layers[0].forward(self._first, self._out, scale=self._scale)
        return torch.cat((first, after), 1)

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        fc, delta = self._weights.fc, grad[:, :1]
        name = f"transformers.{self._stage}.pool.fc"
        yield _alone(name, "mlp", fc, self._first, delta, self._members, self._place)
        patches = self._convolution.backward(grad[:, 1:], self._before)
        if self._ratios is not None:
            patches = self._summed(patches, self._ratios)
        return torch.cat((fc.layers[0].backward(delta, self._into, self._scale), patches), 1)

    def _summed(self, grad: Tensor, ratios: Tensor) -> Tensor:
        """Add up the gradients of the adjacent output channels of every input channel.

        By gathering: a GPU scatters in any order, and sums would differ in the last digit.
        """
        channels = torch.arange(self._into, device=grad.device) * ratios
        parts = [
            _gathered(grad, channels + i) * (i < ratios).to(grad.dtype) for i in range(self._most)
        ]
        return torch.stack(parts).sum(0)


def _gathered(x: Tensor, channels: Tensor) -> Tensor:
    """Return channels of each candidate, some of which may not exist.

    Args:
        x: Shape (candidates, tokens, width).
        channels: Shape (candidates, 1, channels).
    """
    inside = channels.clamp_max(x.shape[2] - 1)
    return x.gather(2, inside.expand(-1, x.shape[1], -1))


def scale_of(layer: LinearStack, batch: StageBatch) -> Scale:
    """Return the factors of a layer whose inputs are the tokens of a stage."""
    if batch.widths is None or layer.scale(1) == 1:
        return layer.scale(batch.width)
    return layer.scale(1) * batch.widths.share.sqrt()


class _Block(NamedTuple):
    """The results of a block's forward pass that its backward pass needs."""

    norm1: Normalised
    attention: Attention
    norm2: Normalised
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
        self._frame, self._width = batch.frame, batch.width
        self._key_weights = key_weights
        self._place = place
        self._stacked = stacked
        self._scale = scale_of(weights.linears["attn.qkv"], batch)
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
                widths_of(self._width, self._width, frame.hidden_dim) if self._stacked else None
            ),
        )
        x, mean = self._apart(x)
        finished: list[tuple[Tensor, Tensor]] = []
        for i, active in enumerate(frame.active):
            if active < len(x):
                finished.insert(0, (x[active:], mean[active:]))
            x, mean, block = self._forward(i, x[:active], mean[:active])
            self._blocks.append(block)
        if finished:
            x, mean = (torch.cat(parts) for parts in zip((x, mean), *finished, strict=True))
        return self._together(x, mean)

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        widths = self._batch.widths
        if widths is not None:
            grad = grad * widths.within
        # The means bypass the blocks: they only reach the output of the stage.
        totals = grad.sum(2, keepdim=True)
        current = grad[:0]
        while self._blocks:
            i = len(self._blocks) - 1
            active = self._frame.active[i]
            current = self._layers.joined(i, current, grad[len(current) : active])
            current = yield from self._backward(i, self._blocks.pop(), current, totals[:active])
            yield from self._layers.ended(i)
        current, _ = self._apart(current)
        share = 1 / self._width if widths is None else widths.share
        return self._together(current, totals * share)

    def _apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens without their means, and the means, shape (candidates, tokens, 1)."""
        widths = self._batch.widths
        if widths is None:
            mean = x.mean(2, keepdim=True)
            return x - mean, mean
        x = x * widths.within
        mean = x.sum(2, keepdim=True).mul_(widths.share)
        return x.addcmul_(widths.within, mean, value=-1), mean

    def _together(self, x: Tensor, mean: Tensor) -> Tensor:
        """Add means to tokens, within each candidate's width."""
        widths = self._batch.widths
        return x + mean if widths is None else torch.addcmul(x, widths.within, mean)

    def _forward(self, i: int, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor, _Block]:
        frame, count = self._frame, len(x)
        norm1, norm2 = self._weights.norms[i]
        live = None if self._batch.live is None else self._batch.live[i]
        inside = self._inside(count, live)
        scale, linears = self._scale_in(count), self._layers.linears(i)
        first = self._normalise(x, norm1, self._layers.room(i, "attn.qkv", "x"))
        qkv = linears["attn.qkv"].forward(first.out, 3 * self._width, scale=scale)
        room, heads = self._layers.room(i, "attn.proj", "x"), self._heads(count, live)
        attention = Attention(qkv, heads, self._key_weights, room)
        proj = linears["attn.proj"]
        x = added(x, proj.forward(attention.out, self._width, scale=scale), inside)
        mean = mean + proj.shift(attention.out, scale)
        second = self._normalise(x, norm2, self._layers.room(i, "mlp.fc1", "x"))
        hidden = linears["mlp.fc1"].forward(second.out, frame.hidden_dim, scale=scale)
        room = self._layers.room(i, "mlp.fc2", "x")
        activated = masked(F.gelu(hidden), self._hidden(count, live), room)
        down, fc2 = self._scale_down(count), linears["mlp.fc2"]
        x = added(x, fc2.forward(activated, self._width, scale=down), inside)
        mean = mean + fc2.shift(activated, down)
        return x, mean, _Block(first, attention, second, hidden, activated)

    def _backward(
        self, i: int, block: _Block, grad: Tensor, totals: Tensor
    ) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers of a block, and return the gradient of its input."""
        layers, width, count = self._layers, self._width, len(grad)
        scale, linears = self._scale_in(count), self._layers.linears(i)
        live = None if self._batch.live is None else self._batch.live[i]
        norm1, attention, norm2, hidden, activated = block
        yield from layers.layer(i, "mlp.fc2", activated, grad)
        down, fc2 = self._scale_down(count), linears["mlp.fc2"]
        delta = fc2.backward(grad, hidden.shape[2], down).add_(fc2.shift_back(totals, down))
        torch.ops.aten.gelu_backward.grad_input(delta, hidden, grad_input=delta)
        delta = masked(delta, self._hidden(count, live), layers.room(i, "mlp.fc1", "delta"))
        yield from layers.layer(i, "mlp.fc1", norm2.out, delta)
        room = layers.room(i, "attn.proj", "delta")
        grad = norm2.backward(linears["mlp.fc1"].backward(delta, width, scale), grad, room)

        yield from layers.layer(i, "attn.proj", attention.out, grad)
        proj = linears["attn.proj"]
        delta = proj.backward(grad, width, scale).add_(proj.shift_back(totals, scale))
        delta = attention.backward(delta, layers.room(i, "attn.qkv", "delta"))
        yield from layers.layer(i, "attn.qkv", norm1.out, delta)
        room = layers.before(i, count)
        return norm1.backward(linears["attn.qkv"].backward(delta, width, scale), grad, room)

    def _normalise(
        self, x: Tensor, weights: tuple[Tensor, Tensor], room: Tensor | None
    ) -> Normalised:
        plain = self._weights.plain_norms
        return normalise(x, weights, LAYER_NORM_EPS, self._batch.widths, room, plain=plain)

    def _heads(self, count: int, live: Tensor | None) -> HeadGroup:
        mask = None if self._batch.heads is None else self._batch.heads[:count]
        if live is not None:
            mask = live.unsqueeze(3) if mask is None else mask * live.unsqueeze(3)
        number = self._frame.num_heads
        return HeadGroup(slice(None), number, self._width // number, False, mask)

    def _inside(self, count: int, live: Tensor | None) -> Tensor | None:
        """Return the mask of the widths of the first candidates in a block."""
        if self._batch.widths is None:
            return live
        mask = self._batch.widths.within[:count]
        return mask if live is None else mask * live

    def _scale_in(self, count: int) -> Scale:
        """Return the factors of the layers whose inputs are the tokens of the first candidates."""
        return self._scale[:count] if isinstance(self._scale, torch.Tensor) else self._scale

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
        weights: Weights of the classifier.
        norm: Weight and bias of the normalisation before it.
        batch: What each candidate uses of the last stage.
        place: Position of the classifier in the network.
        plain_norms: Whether normalisations have unit weights and zero biases.
    """

    def __init__(
        self,
        weights: LinearStack,
        norm: tuple[Tensor, Tensor],
        batch: StageBatch,
        place: int,
        *,
        plain_norms: bool,
    ) -> None:
        self._weights = weights
        self._norm_weights = norm
        self._batch = batch
        self._place = place
        self._plain_norms = plain_norms
        self._scale = scale_of(weights, batch)

    def forward(self, x: Tensor) -> Tensor:
        self._tokens = x.shape[1]
        self._norm = normalise(
            x[:, :1],
            self._norm_weights,
            LAYER_NORM_EPS,
            self._batch.widths,
            plain=self._plain_norms,
        )
        return self._weights.layers[0].forward(self._norm.out, scale=self._scale)

    def backward(self, grad: Tensor) -> Generator[LinearTrace, None, Tensor]:
        x, members = self._norm.out, self._batch.members
        yield _alone("head", "head", self._weights, x, grad, members, self._place)
        grad = self._weights.layers[0].backward(grad, x.shape[2], self._scale)
        return F.pad(self._norm.backward(grad, None, None), (0, 0, 0, self._tokens - 1))


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
