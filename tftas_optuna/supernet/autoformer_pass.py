"""One forward and backward pass through absolute slices of an AutoFormer supernet.

Written out by hand because only the outputs of the linear layers need gradients: no weight ever
gets one, nothing is recorded for autograd, and every layer is handed on as soon as its gradient
is known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from tftas_optuna.models.autoformer import LAYER_NORM_EPS
from tftas_optuna.supernet.trace import LinearTrace

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from torch import Tensor

    from tftas_optuna.architecture import AutoFormerArchitecture
    from tftas_optuna.supernet.linear import AbsoluteLinear
    from tftas_optuna.supernet.positions import Positions


class BlockWeights(NamedTuple):
    """Absolute weights of one block of the supernet, at full size.

    Rows of ``qkv`` are ordered (head, query/key/value, head_dim), so fewer heads are a prefix.
    Its bias keeps the supernet's own order: all queries, all keys, all values.
    """

    norm1: tuple[Tensor, Tensor]
    qkv: AbsoluteLinear
    proj: AbsoluteLinear
    norm2: tuple[Tensor, Tensor]
    fc1: AbsoluteLinear
    fc2: AbsoluteLinear
    key_embeddings: Tensor | None
    value_embeddings: Tensor | None


class _Norm(NamedTuple):
    """A layer normalisation that was run, and can be run backwards."""

    out: Tensor
    x: Tensor
    mean: Tensor
    rstd: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def run(cls, x: Tensor, weights: tuple[Tensor, Tensor]) -> _Norm:
        width = x.shape[-1]
        weight, bias = weights[0][:width], weights[1][:width]
        out, mean, rstd = torch.native_layer_norm(x, (width,), weight, bias, LAYER_NORM_EPS)
        return cls(out, x, mean, rstd, weight, bias)

    def backward(self, grad: Tensor) -> Tensor:
        grad_x: Tensor = torch.ops.aten.native_layer_norm_backward(
            grad,
            self.x,
            self.x.shape[-1:],
            self.mean,
            self.rstd,
            self.weight,
            self.bias,
            [True, False, False],
        )[0]
        return grad_x


class _Block(NamedTuple):
    """What the backward pass needs of a block that was run."""

    norm1: _Norm
    q: Tensor
    k: Tensor
    v: Tensor
    attention: Tensor
    out: Tensor
    norm2: _Norm
    hidden: Tensor
    slope: Tensor


class AutoFormerPass:
    """Runs candidates of one width together.

    Args:
        blocks: Weights of the supernet's blocks.
        norm: Weight and bias of the final normalisation.
        head: Weight and bias of the classifier.
        archs: Candidates of one width, deepest first.
        positions: The tokens.
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
        self._width = archs[0].embed_dim
        self._head_dim = archs[0].head_dim
        self._scale = self._head_dim**-0.5

    def run(self, tokens: Tensor) -> Iterator[LinearTrace]:
        """Run the candidates; give the layers from the last to the first.

        A layer's trace covers the first of the candidates, those that are deep enough for it.

        Args:
            tokens: Embedded tokens, shape (tokens, width).
        """
        archs = self._archs
        # Like the layers that write to it, the stream is kept without its mean.
        tokens = tokens - tokens.mean(1, keepdim=True)
        x = tokens.expand(len(archs), -1, -1).contiguous()
        done: list[_Block] = []
        finished: list[Tensor] = []
        for i in range(archs[0].depth):
            active = self._active(i)
            finished.insert(0, x[active:])
            x, block = self._forward(i, x[:active])
            done.append(block)
        norm = _Norm.run(torch.cat((x, *finished)) if len(archs) > 1 else x, self._norm)
        trace, final_grad = self._classify(norm)
        yield trace
        grad = final_grad[:0]
        while done:
            i = len(done) - 1
            joining = final_grad[len(grad) : self._active(i)]
            grad = torch.cat((grad, joining)) if len(joining) else grad
            grad = yield from self._backward(i, done.pop(), grad)

    def _active(self, i: int) -> int:
        return sum(arch.depth > i for arch in self._archs)

    def _classify(self, norm: _Norm) -> tuple[LinearTrace, Tensor]:
        head = self._head[0][:, : self._width]
        mean = self._archs[0].global_pool == "avg"
        pooled = norm.out[:, 1:].mean(1, keepdim=True) if mean else norm.out[:, :1]
        delta = head.new_ones(len(self._archs), 1, len(head))
        shapes = [(len(head), self._width)] * len(self._archs)
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
        count, tokens, _ = x.shape
        archs = self._archs[:count]
        heads = max(arch.num_heads[i] for arch in archs)
        inner, head_dim = heads * self._head_dim, self._head_dim
        norm1 = _Norm.run(x, weights.norm1)
        qkv = weights.qkv.forward(norm1.out, 3 * inner, bias=False)
        if weights.qkv.bias is not None:
            qkv += self._qkv_biases(weights.qkv.bias, [arch.num_heads[i] for arch in archs])
        parts = qkv.view(count, tokens, heads, 3, head_dim).permute(3, 0, 2, 1, 4)
        q, k, v = (part.reshape(count * heads, tokens, head_dim) for part in parts)
        if weights.key_embeddings is None:
            logits = q @ k.transpose(1, 2) * self._scale
        else:
            bias = self._positions.spread(q @ weights.key_embeddings.T)
            logits = bias.baddbmm_(q, k.transpose(1, 2), beta=self._scale, alpha=self._scale)
        attention = self._positions.weigh_keys(logits).softmax(-1)
        if weights.value_embeddings is None:
            out = attention @ v
        else:
            out = self._positions.gather(attention) @ weights.value_embeddings
            out = out.baddbmm_(attention, v)
        out = out.view(count, heads, tokens, head_dim).transpose(1, 2)
        out = self._masked(
            out.reshape(count, tokens, inner), [arch.num_heads[i] * head_dim for arch in archs]
        )
        middle = weights.proj.forward(out, width).add_(x)
        norm2 = _Norm.run(middle, weights.norm2)
        hidden = max(arch.hidden_dim[i] for arch in archs)
        activated, slope = _gelu(weights.fc1.forward(norm2.out, hidden))
        beyond = self._beyond([arch.hidden_dim[i] for arch in archs], hidden)
        if beyond is not None:
            activated.masked_fill_(beyond, 0)
            slope.masked_fill_(beyond, 0)
        block = _Block(norm1, q, k, v, attention, out, norm2, activated, slope)
        return weights.fc2.forward(activated, width).add_(middle), block

    def _backward(
        self, i: int, block: _Block, grad: Tensor
    ) -> Generator[LinearTrace, None, Tensor]:
        """Give the layers of a block, the last one first, and return the gradient before it."""
        weights, width, name = self._blocks[i], self._width, f"blocks.{i}"
        count, tokens, _ = grad.shape
        archs = self._archs[:count]
        head_dim, inner, hidden = self._head_dim, block.out.shape[2], block.hidden.shape[2]
        heads = inner // head_dim
        down = [(width, arch.hidden_dim[i]) for arch in archs]
        fc1, fc2 = weights.fc1, weights.fc2
        yield LinearTrace(f"{name}.mlp.fc2", "mlp", down, fc2.whole, block.hidden, grad)
        delta = fc2.backward(grad, hidden).mul_(block.slope)
        up = [(out, into) for into, out in down]
        yield LinearTrace(f"{name}.mlp.fc1", "mlp", up, fc1.whole, block.norm2.out, delta)
        grad = block.norm2.backward(fc1.backward(delta, width)).add_(grad)

        outs = [(width, arch.num_heads[i] * head_dim) for arch in archs]
        proj, qkv = weights.proj, weights.qkv
        yield LinearTrace(f"{name}.attn.proj", "attention", outs, proj.whole, block.out, grad)
        delta = self._masked(proj.backward(grad, inner), [own for _, own in outs])
        delta = delta.view(count, tokens, heads, head_dim).transpose(1, 2)
        delta = delta.reshape(count * heads, tokens, head_dim)
        d_attention = self._d_attention(weights, block, delta)
        d_logits = torch._softmax_backward_data(d_attention, block.attention, -1, grad.dtype)
        d_qkv = grad.new_empty(count, tokens, heads, 3, head_dim)
        q_part, k_part, v_part = d_qkv.permute(3, 0, 2, 1, 4).unbind(0)
        d_q = d_logits @ block.k
        if weights.key_embeddings is not None:
            d_q.baddbmm_(
                self._positions.gather(d_logits),
                weights.key_embeddings.expand(len(d_q), -1, -1),
            )
        torch.mul(d_q.view(q_part.shape), self._scale, out=q_part)
        d_k = d_logits.transpose(1, 2) @ block.q
        torch.mul(d_k.view(k_part.shape), self._scale, out=k_part)
        v_part.copy_((block.attention.transpose(1, 2) @ delta).view(v_part.shape))
        delta = d_qkv.flatten(2)
        three = [(3 * own, width) for _, own in outs]
        yield LinearTrace(
            f"{name}.attn.qkv", "attention", three, qkv.whole, block.norm1.out, delta
        )
        return block.norm1.backward(qkv.backward(delta, width)).add_(grad)

    def _d_attention(self, weights: BlockWeights, block: _Block, delta: Tensor) -> Tensor:
        values = block.v.transpose(1, 2)
        if weights.value_embeddings is None:
            return delta @ values
        bias = self._positions.spread(delta @ weights.value_embeddings.T)
        return bias.baddbmm_(delta, values)

    def _qkv_biases(self, bias: Tensor, num_heads: Sequence[int]) -> Tensor:
        """Reorder the candidates' biases to (head, query/key/value, head_dim), padded."""
        widest = max(num_heads)
        own = {}
        for heads in set(num_heads):
            cut = bias[: 3 * heads * self._head_dim].view(3, heads, self._head_dim)
            own[heads] = F.pad(cut.transpose(0, 1), (0, 0, 0, 0, 0, widest - heads)).flatten()
        return torch.stack([own[heads] for heads in num_heads]).unsqueeze(1)

    def _masked(self, x: Tensor, own: Sequence[int]) -> Tensor:
        """Set to zero what is beyond each candidate's own width."""
        beyond = self._beyond(own, x.shape[2])
        return x if beyond is None else x.masked_fill(beyond, 0)

    def _beyond(self, own: Sequence[int], width: int) -> Tensor | None:
        """Mark what is beyond each candidate's own width, (candidates, 1, width)."""
        if min(own) == width:
            return None
        device = self._head[0].device
        widths = torch.tensor(own, device=device)
        return torch.arange(width, device=device) >= widths[:, None, None]


def _gelu(x: Tensor) -> tuple[Tensor, Tensor]:
    """GELU and its derivative."""
    cdf = (x * math.sqrt(0.5)).erf_().mul_(0.5).add_(0.5)
    slope = (x * x).mul_(-0.5).exp_().mul_((2 * math.pi) ** -0.5).mul_(x).add_(cdf)
    return cdf.mul_(x), slope
