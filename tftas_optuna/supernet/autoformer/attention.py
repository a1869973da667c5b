"""The attention of some candidates that all have heads of one width, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from tftas_optuna.supernet.autoformer.positions import Positions


class HeadGroup(NamedTuple):
    """Candidates whose heads run together.

    Attributes:
        members: Their places in the batch.
        num_heads: Heads of the one that has most; what others lack is zero.
        head_dim: Width of a head.
        by_head: Whether the outputs of ``qkv`` are ordered (head, query/key/value, head_dim), so
            that fewer heads are a prefix, or (head, head_dim, query/key/value), so that less
            width is one.
    """

    members: slice | list[int]
    num_heads: int
    head_dim: int
    by_head: bool


class Attention:
    """One block's attention of a group of candidates, run forward.

    Args:
        qkv: Outputs of ``qkv``, shape (candidates, tokens, 3 * inner).
        group: How to cut them into heads.
        key_embeddings: Relative positions of keys, (embeddings, head_dim), or None.
        value_embeddings: Those of values.
        positions: The tokens.

    Attributes:
        out: What the heads attend to, shape (candidates, tokens, inner).
    """

    out: Tensor

    def __init__(
        self,
        qkv: Tensor,
        group: HeadGroup,
        key_embeddings: Tensor | None,
        value_embeddings: Tensor | None,
        positions: Positions,
    ) -> None:
        self._group = group
        self._positions = positions
        self._scale = group.head_dim**-0.5
        self._key_embeddings = _cut(key_embeddings, group.head_dim)
        self._value_embeddings = _cut(value_embeddings, group.head_dim)
        count, tokens, _ = qkv.shape
        q, k, v = (part.reshape(-1, tokens, group.head_dim) for part in self._parts(qkv))
        if self._key_embeddings is None:
            logits = q @ k.transpose(1, 2) * self._scale
        else:
            bias = positions.spread(q @ self._key_embeddings.T)
            logits = bias.baddbmm_(q, k.transpose(1, 2), beta=self._scale, alpha=self._scale)
        attention = positions.weigh_keys(logits).softmax(-1)
        if self._value_embeddings is None:
            out = attention @ v
        else:
            out = positions.gather(attention) @ self._value_embeddings
            out = out.baddbmm_(attention, v)
        self._q, self._k, self._v, self._attention = q, k, v, attention
        out = out.view(count, group.num_heads, tokens, group.head_dim)
        self.out = out.transpose(1, 2).reshape(count, tokens, -1)

    def backward(self, delta: Tensor) -> Tensor:
        """Turn gradients of ``out`` into gradients of ``qkv``, of the same shapes."""
        count, tokens, inner = delta.shape
        heads, head_dim = self._group.num_heads, self._group.head_dim
        delta = delta.view(count, tokens, heads, head_dim).transpose(1, 2)
        delta = delta.reshape(count * heads, tokens, head_dim)
        d_logits = torch._softmax_backward_data(
            self._d_attention(delta), self._attention, -1, delta.dtype
        )
        d_qkv = delta.new_empty(count, tokens, 3 * inner)
        q_part, k_part, v_part = self._parts(d_qkv)
        d_q = d_logits @ self._k
        if self._key_embeddings is not None:
            d_q.baddbmm_(
                self._positions.gather(d_logits), self._key_embeddings.expand(len(d_q), -1, -1)
            )
        torch.mul(d_q.view(q_part.shape), self._scale, out=q_part)
        d_k = d_logits.transpose(1, 2) @ self._q
        torch.mul(d_k.view(k_part.shape), self._scale, out=k_part)
        v_part.copy_((self._attention.transpose(1, 2) @ delta).view(v_part.shape))
        return d_qkv

    def _parts(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Return views of queries, keys and values, (candidates, heads, tokens, head_dim)."""
        heads, head_dim = self._group.num_heads, self._group.head_dim
        if self._group.by_head:
            return qkv.unflatten(2, (heads, 3, head_dim)).permute(3, 0, 2, 1, 4).unbind(0)
        return qkv.unflatten(2, (heads, head_dim, 3)).permute(4, 0, 2, 1, 3).unbind(0)

    def _d_attention(self, delta: Tensor) -> Tensor:
        values = self._v.transpose(1, 2)
        if self._value_embeddings is None:
            return delta @ values
        bias = self._positions.spread(delta @ self._value_embeddings.T)
        return bias.baddbmm_(delta, values)


def _cut(embeddings: Tensor | None, head_dim: int) -> Tensor | None:
    return None if embeddings is None else embeddings[:, :head_dim]
