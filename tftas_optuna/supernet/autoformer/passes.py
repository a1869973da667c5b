"""The forward and backward pass through absolute slices of an AutoFormer supernet.

The backward pass is written by hand because only the outputs of the linear layers need gradients:
weights get none, autograd records nothing, and every layer is yielded as soon as its gradient is
computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from tftas_optuna.architecture.autoformer import LAYER_NORM_EPS
from tftas_optuna.supernet.attention import Attention, HeadGroup
from tftas_optuna.supernet.autoformer.attention import RelativeAttention
from tftas_optuna.supernet.layers import LayerNorm, MixedLayerNorm, Widths
from tftas_optuna.supernet.trace import LinearTrace

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from tftas_optuna.architecture import AutoFormerArchitecture
    from tftas_optuna.supernet.autoformer.positions import Positions
    from tftas_optuna.supernet.layers import Normalised
    from tftas_optuna.supernet.linear import CentredLinear


class BlockWeights(NamedTuple):
    """Absolute weights of one block of the supernet, at full size.

    :class:`HeadGroup` describes the order of the rows of ``qkv``. Its bias keeps the supernet's
    order: all queries, all keys, all values.
    """

    norm1: tuple[Tensor, Tensor]
    qkv: CentredLinear
    proj: CentredLinear
    norm2: tuple[Tensor, Tensor]
    fc1: CentredLinear
    fc2: CentredLinear
    key_embeddings: Tensor | None
    value_embeddings: Tensor | None


class _Block(NamedTuple):
    """The results of a block's forward pass that its backward pass needs."""

    norm1: Normalised
    attentions: list[tuple[HeadGroup, Attention]]
    out: Tensor
    norm2: Normalised
    hidden: Tensor
    activated: Tensor
    beyond: Tensor | None


class AutoFormerPass:
    """A pass of several candidates, of one width or with heads of one width.

    Args:
        blocks: Weights of the blocks of the supernet.
        norm: Weight and bias of the final normalisation.
        head: Weight and bias of the classifier.
        archs: The candidates, deepest first.
        positions: Positions of the tokens.
    """

    def __init__(
        self,
        blocks: Sequence[BlockWeights],
        norm: tuple[Tensor, Tensor],
        head: tuple[Tensor, Tensor],
        archs: Sequence[AutoFormerArchitecture],
        positions: Positions,
    ) -> None:
        self._blocks = blocks
        self._norm = norm
        self._head = head
        self._archs = archs
        self._positions = positions
        widths = [arch.embed_dim for arch in archs]
        self._width = max(widths)
        self._widths = None if len(set(widths)) == 1 else Widths.of(widths, norm[0])
        self._head_dim = archs[0].head_dim

    def run(self, tokens: Tensor) -> Iterator[LinearTrace]:
        """Run the candidates and yield their layers from the last to the first.

        The trace of a layer covers the candidates that are deep enough, which are the first ones.

        Args:
            tokens: Embedded tokens, shape (tokens, width).
        """
        archs = self._archs
        tokens = tokens[:, : self._width]
        # The residual stream is centred, like the layers that write to it.
        if self._widths is None:
            tokens = tokens - tokens.mean(1, keepdim=True)
            x = tokens.expand(len(archs), -1, -1).contiguous()
        else:
            x = self._widths.centre(tokens)
        blocks: list[_Block] = []
        finished: list[Tensor] = []
        for i in range(archs[0].depth):
            active = self._active(i)
            finished.insert(0, x[active:])
            x, block = self._forward(i, x[:active])
            blocks.append(block)
        norm = self._normalise(torch.cat((x, *finished)) if len(archs) > 1 else x, self._norm)
        trace, final_grad = self._classify(norm)
        yield trace
        grad = final_grad[:0]
        while blocks:
            i = len(blocks) - 1
            joining = final_grad[len(grad) : self._active(i)]
            grad = torch.cat((grad, joining)) if len(joining) else grad
            grad = yield from self._backward(i, blocks.pop(), grad)

    def _active(self, i: int) -> int:
        return sum(arch.depth > i for arch in self._archs)

    def _classify(self, norm: Normalised) -> tuple[LinearTrace, Tensor]:
        head = self._head[0][:, : self._width]
        mean = self._archs[0].global_pool == "avg"
        pooled = norm.out[:, 1:].mean(1, keepdim=True) if mean else norm.out[:, :1]
        delta = head.new_ones(len(self._archs), 1, len(head))
        shapes = [(len(head), arch.embed_dim) for arch in self._archs]
        grad = torch.zeros_like(norm.out)
        pooled_grad = head.sum(0)
        if mean:
            grad[:, 1:] = pooled_grad / (norm.out.shape[1] - 1)
        else:
            grad[:, 0] = pooled_grad
        trace = LinearTrace(
            "head", "head", shapes, lambda out, into: head[:out, :into], pooled, delta
        )
        return trace, norm.backward(grad)

    def _forward(self, i: int, x: Tensor) -> tuple[Tensor, _Block]:
        weights, width = self._blocks[i], self._width
        archs = self._archs[: len(x)]
        inner = max(arch.inner_dim[i] for arch in archs)
        norm1 = self._normalise(x, weights.norm1)
        qkv = weights.qkv.forward(norm1.out, 3 * inner, bias=False)
        if weights.qkv.bias is not None:
            qkv += self._qkv_biases(weights.qkv.bias, [arch.inner_dim[i] for arch in archs])
        attentions = [
            (group, self._attention(qkv[group.members], group, weights))
            for group in self._head_groups(i, archs)
        ]
        out = self._masked(
            self._join([(group, attention.out) for group, attention in attentions]),
            [arch.inner_dim[i] for arch in archs],
        )
        middle = weights.proj.forward(out, width).add_(x)
        norm2 = self._normalise(middle, weights.norm2)
        hidden = max(arch.hidden_dim[i] for arch in archs)
        before = weights.fc1.forward(norm2.out, hidden)
        activated = F.gelu(before)
        beyond = self._beyond([arch.hidden_dim[i] for arch in archs], hidden)
        if beyond is not None:
            activated.masked_fill_(beyond, 0)
        block = _Block(norm1, attentions, out, norm2, before, activated, beyond)
        return weights.fc2.forward(activated, width).add_(middle), block

    def _backward(
        self, i: int, block: _Block, grad: Tensor
    ) -> Generator[LinearTrace, None, Tensor]:
        """Yield the layers of a block, the last one first; return the gradient of its input."""
        weights, width, name = self._blocks[i], self._width, f"blocks.{i}"
        archs = self._archs[: len(grad)]
        inner, hidden = block.out.shape[2], block.hidden.shape[2]
        down = [(arch.embed_dim, arch.hidden_dim[i]) for arch in archs]
        fc1, fc2 = weights.fc1, weights.fc2
        # The widest candidate of the pass may not have this block.
        widest = max(arch.embed_dim for arch in archs)
        yield LinearTrace(
            f"{name}.mlp.fc2", "mlp", down, fc2.whole, block.activated, grad[..., :widest]
        )
        delta = fc2.backward(grad, hidden)
        torch.ops.aten.gelu_backward.grad_input(delta, block.hidden, grad_input=delta)
        if block.beyond is not None:
            delta.masked_fill_(block.beyond, 0)
        up = [(out, into) for into, out in down]
        x = block.norm2.out[..., :widest]
        yield LinearTrace(f"{name}.mlp.fc1", "mlp", up, fc1.whole, x, delta)
        grad = block.norm2.backward(fc1.backward(delta, width)).add_(grad)

        outs = [(arch.embed_dim, arch.inner_dim[i]) for arch in archs]
        proj, qkv = weights.proj, weights.qkv
        yield LinearTrace(
            f"{name}.attn.proj", "attention", outs, proj.whole, block.out, grad[..., :widest]
        )
        delta = self._masked(proj.backward(grad, inner), [inner for _, inner in outs])
        delta = self._join(
            [
                (group, attention.backward(delta[group.members]))
                for group, attention in block.attentions
            ]
        )
        qkv_shapes = [(3 * inner, width) for width, inner in outs]
        x = block.norm1.out[..., :widest]
        yield LinearTrace(f"{name}.attn.qkv", "attention", qkv_shapes, qkv.whole, x, delta)
        if i == 0:
            return grad  # the gradient of the embedded tokens is not needed
        return block.norm1.backward(qkv.backward(delta, width)).add_(grad)

    def _normalise(self, x: Tensor, weights: tuple[Tensor, Tensor]) -> Normalised:
        if self._widths is None:
            return LayerNorm.run(x, weights, LAYER_NORM_EPS)
        return MixedLayerNorm.run(x, weights, LAYER_NORM_EPS, self._widths.first(len(x)))

    def _attention(self, qkv: Tensor, group: HeadGroup, weights: BlockWeights) -> Attention:
        keys, values = weights.key_embeddings, weights.value_embeddings
        if keys is None or values is None:
            return Attention(qkv, group, self._positions.key_weights)
        return RelativeAttention(qkv, group, keys, values, self._positions)

    def _head_groups(self, i: int, archs: Sequence[AutoFormerArchitecture]) -> list[HeadGroup]:
        if self._head_dim is not None:
            most = max(arch.num_heads[i] for arch in archs)
            return [HeadGroup(slice(None), most, self._head_dim, by_head=True)]
        return [
            HeadGroup(
                [at for at, arch in enumerate(archs) if arch.num_heads[i] == heads],
                heads,
                self._width // heads,
                by_head=False,
            )
            for heads in {arch.num_heads[i]: None for arch in archs}
        ]

    def _join(self, parts: list[tuple[HeadGroup, Tensor]]) -> Tensor:
        """Merge the tensors of groups of candidates, in the order of the batch."""
        if len(parts) == 1:
            return parts[0][1]
        _, first = parts[0]
        whole = first.new_empty(sum(len(part) for _, part in parts), *first.shape[1:])
        for group, part in parts:
            whole[group.members] = part
        return whole

    def _qkv_biases(self, bias: Tensor, inner: Sequence[int]) -> Tensor:
        """Return the candidates' biases, padded and in the order of the rows of ``qkv``."""
        biases = {}
        for width in set(inner):
            cut = bias[: 3 * width].view(3, -1, self._head_dim or 1).transpose(0, 1).flatten()
            biases[width] = F.pad(cut, (0, 3 * (max(inner) - width)))
        return torch.stack([biases[width] for width in inner]).unsqueeze(1)

    def _masked(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        """Set the entries beyond each candidate's width to zero."""
        beyond = self._beyond(widths, x.shape[2])
        return x if beyond is None else x.masked_fill(beyond, 0)

    def _beyond(self, widths: Sequence[int], widest: int) -> Tensor | None:
        """Mark the entries beyond each candidate's width, shape (candidates, 1, widest)."""
        if min(widths) == widest:
            return None
        device = self._head[0].device
        limits = torch.tensor(widths, device=device)
        return torch.arange(widest, device=device) >= limits[:, None, None]
