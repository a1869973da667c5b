"""The forward and backward pass through absolute slices of an AutoFormer supernet.

The backward pass is written by hand because only the outputs of the linear layers need gradients:
weights get none, autograd records nothing, and every layer is yielded as soon as its gradient is
computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from tftas_optuna.supernet.attention import HeadGroup
from tftas_optuna.supernet.layers import added, masked, normalise
from tftas_optuna.supernet.stacks import LAYERS, Blocks, widths_of
from tftas_optuna.supernet.trace import LinearTrace, PlainWeights

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from tftas_optuna.architecture import AutoFormerArchitecture
    from tftas_optuna.supernet.attention import Attention, PairwiseAttention
    from tftas_optuna.supernet.autoformer.batch import Batch
    from tftas_optuna.supernet.autoformer.positions import Positions
    from tftas_optuna.supernet.layers import Normalised
    from tftas_optuna.supernet.linear import LinearStack


class BlockNorms(NamedTuple):
    """The normalisations of one block and its position embeddings.

    Attributes:
        norm1: Weight and bias.
        norm2: Weight and bias.
        embeddings: Position embeddings of keys and of values, or None.
    """

    norm1: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    embeddings: tuple[Tensor, Tensor] | None


class AutoFormerWeights(NamedTuple):
    """The absolute weights of the supernet, arranged for the pass.

    Attributes:
        linears: The linear layers of the blocks. :class:`HeadGroup` describes the order of the
            rows of ``attn.qkv``.
        blocks: The normalisations and position embeddings of the blocks.
        norm: Weight and bias of the final normalisation.
        head: Weight of the classifier.
        plain_norms: Whether all normalisations have unit weights and zero biases.
        bias_by_rows: Whether the bias of ``attn.qkv`` has the order of the rows; otherwise it is
            that of AutoFormer: all queries, all keys, all values.
    """

    linears: dict[str, LinearStack]
    blocks: list[BlockNorms]
    norm: tuple[Tensor, Tensor]
    head: Tensor
    plain_norms: bool
    bias_by_rows: bool


class _Block(NamedTuple):
    """The results of a block's forward pass that its backward pass needs."""

    norm1: Normalised
    attentions: list[tuple[HeadGroup, Attention | PairwiseAttention]]
    out: Tensor
    norm2: Normalised
    hidden: Tensor
    activated: Tensor


class AutoFormerPass:
    """A pass of several candidates, of one width or with heads of one width.

    Args:
        weights: The weights of the supernet.
        largest: The architecture of the supernet.
        positions: Positions of the tokens.
        batch: What each of them uses of the tensors.
    """

    def __init__(
        self,
        weights: AutoFormerWeights,
        largest: AutoFormerArchitecture,
        positions: Positions,
        batch: Batch,
    ) -> None:
        self._weights = weights
        self._largest = largest
        self._positions = positions
        self._batch = batch
        self._frame = batch.frame

    def run(self, tokens: Tensor) -> Iterator[LinearTrace]:
        """Run the candidates and yield their layers from the last to the first.

        The trace of a layer covers the candidates that are deep enough, which are the first ones.
        Blocks of a stack that the same candidates have are yielded together.

        Args:
            tokens: Embedded tokens, shape (tokens, width).

        Yields:
            Layers without the shapes of the candidates' weights.
        """
        frame, widths = self._frame, self._batch.widths
        tokens = tokens[:, : frame.width]
        # The residual stream is centred, like the layers that write to it.
        if widths is None:
            tokens = tokens - tokens.mean(1, keepdim=True)
            x = tokens.expand(frame.n_candidates, -1, -1).contiguous()
        else:
            x = widths.centre(tokens)
        self._layers = Blocks(
            self._weights.linears,
            "blocks",
            frame.active,
            place=0,
            members=None,
            n_tokens=len(tokens),
            widths=(
                widths_of(frame.width, self._inner(0), frame.hidden_dim[0])
                if frame.stacked
                else None
            ),
        )
        blocks: list[_Block] = []
        finished: list[Tensor] = []
        for i, active in enumerate(frame.active):
            if active < len(x):
                finished.insert(0, x[active:])
            x, block = self._forward(i, x[:active])
            blocks.append(block)
        norm = self._normalise(torch.cat((x, *finished)) if finished else x, self._weights.norm)
        trace, final_grad = self._classify(norm)
        yield trace
        grad = final_grad[:0]
        while blocks:
            i = len(blocks) - 1
            grad = self._layers.joined(i, grad, final_grad[len(grad) : frame.active[i]])
            grad = yield from self._backward(i, blocks.pop(), grad)
            yield from self._layers.ended(i)

    def _classify(self, norm: Normalised) -> tuple[LinearTrace, Tensor]:
        head = self._weights.head[:, : self._frame.width]
        mean = self._largest.global_pool == "avg"
        pooled = norm.out[:, 1:].mean(1, keepdim=True) if mean else norm.out[:, :1]
        delta = head.new_ones(self._frame.n_candidates, 1, len(head))
        grad = torch.zeros_like(norm.out)
        pooled_grad = head.sum(0)
        if mean:
            grad[:, 1:] = pooled_grad / (norm.out.shape[1] - 1)
        else:
            grad[:, 0] = pooled_grad
        weights = PlainWeights(self._weights.head[None])
        place = len(LAYERS) * self._largest.depth
        trace = LinearTrace(
            ["head"], "head", (), weights, pooled[None], delta[None], None, [place]
        )
        return trace, norm.backward(grad, None, None)

    def _forward(self, i: int, x: Tensor) -> tuple[Tensor, _Block]:
        weights, frame, inside = self._weights.blocks[i], self._frame, self._batch.inside[i]
        linears = self._layers.linears(i)
        inner, hidden_dim = self._inner(i), frame.hidden_dim[i]
        norm1 = self._normalise(x, weights.norm1, self._layers.room(i, "attn.qkv", "x"))
        qkv = linears["attn.qkv"].forward(norm1.out, 3 * inner, bias=False)
        bias = linears["attn.qkv"].bias
        if bias is not None:
            qkv += self._qkv_biases(i, bias)[: len(x)]
        attentions = self._attend(i, qkv, weights.embeddings)
        parts = [(group, attention.out) for group, attention in attentions]
        out = self._join(parts, self._layers.room(i, "attn.proj", "x"))
        middle = added(x, linears["attn.proj"].forward(out, frame.width), inside)
        norm2 = self._normalise(middle, weights.norm2, self._layers.room(i, "mlp.fc1", "x"))
        hidden = linears["mlp.fc1"].forward(norm2.out, hidden_dim)
        room = self._layers.room(i, "mlp.fc2", "x")
        activated = masked(F.gelu(hidden), self._batch.hidden[i], room)
        block = _Block(norm1, attentions, out, norm2, hidden, activated)
        return added(middle, linears["mlp.fc2"].forward(activated, frame.width), inside), block

    def _backward(
        self, i: int, block: _Block, grad: Tensor
    ) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers of a block, the last one first; return the gradient of its input."""
        width = self._frame.width
        linears = self._layers.linears(i)
        inner, hidden_dim = block.out.shape[2], block.hidden.shape[2]
        yield from self._layers.layer(i, "mlp.fc2", block.activated, grad)
        delta = linears["mlp.fc2"].backward(grad, hidden_dim)
        torch.ops.aten.gelu_backward.grad_input(delta, block.hidden, grad_input=delta)
        delta = masked(delta, self._batch.hidden[i], self._layers.room(i, "mlp.fc1", "delta"))
        yield from self._layers.layer(i, "mlp.fc1", block.norm2.out, delta)
        room = self._layers.room(i, "attn.proj", "delta")
        grad = block.norm2.backward(linears["mlp.fc1"].backward(delta, width), grad, room)

        yield from self._layers.layer(i, "attn.proj", block.out, grad)
        delta = linears["attn.proj"].backward(grad, inner)
        room = self._layers.room(i, "attn.qkv", "delta")
        whole = len(block.attentions) == 1
        delta = self._join(
            [
                (group, attention.backward(delta[group.members], room if whole else None))
                for group, attention in block.attentions
            ],
            room,
        )
        yield from self._layers.layer(i, "attn.qkv", block.norm1.out, delta)
        if i == 0:
            return grad  # the gradient of the embedded tokens is not needed
        room = self._layers.before(i, len(grad))
        return block.norm1.backward(linears["attn.qkv"].backward(delta, width), grad, room)

    def _normalise(
        self, x: Tensor, weights: tuple[Tensor, Tensor], room: Tensor | None = None
    ) -> Normalised:
        plain, eps = self._weights.plain_norms, self._largest.layer_norm_eps
        return normalise(x, weights, eps, self._batch.widths, room, plain=plain)

    def _inner(self, i: int) -> int:
        """Return the width of the attention of a block."""
        head_dim = self._largest.head_dim
        return self._frame.width if head_dim is None else self._frame.num_heads[i] * head_dim

    def _attend(
        self, i: int, qkv: Tensor, embeddings: tuple[Tensor, Tensor] | None
    ) -> list[tuple[HeadGroup, Attention | PairwiseAttention]]:
        groups = self._head_groups(i, len(qkv))
        room = self._layers.room(i, "attn.proj", "x") if len(groups) == 1 else None
        return [
            (group, self._positions.attend(qkv[group.members], group, embeddings, room))
            for group in groups
        ]

    def _head_groups(self, i: int, count: int) -> list[HeadGroup]:
        head_dim, heads = self._largest.head_dim, self._batch.heads[i]
        if head_dim is not None:
            within = None if heads is None else heads[:count]
            return [HeadGroup(slice(None), self._frame.num_heads[i], head_dim, True, within)]
        width, by_heads = self._frame.width, self._frame.shared[i]
        if len(by_heads) == 1:
            return [HeadGroup(slice(None), n, width // n, by_head=False) for n in by_heads]
        return [
            HeadGroup(members, heads, width // heads, by_head=False)
            for heads, members in by_heads.items()
        ]

    def _join(self, parts: list[tuple[HeadGroup, Tensor]], room: Tensor | None) -> Tensor:
        """Merge the tensors of groups of candidates, in the order of the batch."""
        if len(parts) == 1:
            return parts[0][1]
        _, first = parts[0]
        count = sum(len(part) for _, part in parts)
        whole = first.new_empty(count, *first.shape[1:]) if room is None else room
        for group, part in parts:
            whole[group.members] = part
        return whole

    def _qkv_biases(self, i: int, bias: Tensor) -> Tensor:
        """Return the candidates' biases in the order of the rows of ``qkv``.

        Returns:
            Shape (candidates, 1, 3 * inner); anything for heads that a candidate lacks, as these
            are masked later.
        """
        width, head_dim = self._inner(i), self._largest.head_dim
        if self._weights.bias_by_rows:
            return bias[: 3 * width].view(1, 1, -1)
        if head_dim is None:
            return bias[: 3 * width].view(3, width).T.reshape(1, 1, -1)
        unit = torch.arange(width, device=bias.device).view(-1, 1, head_dim)
        part = torch.arange(3, device=bias.device)[:, None]
        own = (self._batch.num_heads[i] * head_dim)[:, None, None, None]
        return bias[(part * own + unit).clamp_max_(len(bias) - 1)].flatten(1).unsqueeze(1)


def shapes_of(
    archs: Sequence[AutoFormerArchitecture], trace: LinearTrace
) -> list[list[tuple[int, int]]]:
    """Return the shapes of the candidates' weights in the layers of a trace, (0, 0) for none."""
    archs = archs[: trace.x.shape[1]]
    if trace.role == "head":
        return [[(trace.delta.shape[3], arch.embed_dim) for arch in archs]]
    key = "inner_dim" if trace.role == "attention" else "hidden_dim"
    sizes = [(arch.embed_dim, getattr(arch, key)) for arch in archs]
    rows = []
    for name in trace.names:
        _, block, _, layer = name.split(".")
        i = int(block)
        own = [(width, each[i] if i < len(each) else 0) for width, each in sizes]
        if layer == "qkv":
            shapes = [(3 * size, width) for width, size in own]
        elif layer == "fc1":
            shapes = [(size, width) for width, size in own]
        else:
            shapes = own
        rows.append([shape if all(shape) else (0, 0) for shape in shapes])
    return rows
