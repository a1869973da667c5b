"""Attention of several candidates with heads of the same width, forward and backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor


class HeadGroup(NamedTuple):
    """Candidates whose attention heads are computed together.

    Attributes:
        members: Positions of the candidates in the batch.
        num_heads: The largest number of heads; the heads that a candidate lacks are zero.
        head_dim: Width of a head.
        by_head: Order of the outputs of ``qkv``. If true it is (head, query/key/value, head_dim),
            so that fewer heads are a prefix; otherwise (head, head_dim, query/key/value), so that
            a smaller width is a prefix.
    """

    members: slice | list[int]
    num_heads: int
    head_dim: int
    by_head: bool


class Attention:
    """The attention of one block for a group of candidates; the constructor runs it forward.

    Args:
        qkv: Outputs of ``qkv``, shape (candidates, tokens, 3 * inner).
        group: How to cut them into heads.
        key_weights: Logarithm of the number of tokens that each key stands for, shape (tokens,);
            None if every key is one token.

    Attributes:
        out: Outputs of the heads, shape (candidates, tokens, inner).
    """

    out: Tensor

    def __init__(self, qkv: Tensor, group: HeadGroup, key_weights: Tensor | None) -> None:
        self._group = group
        self._scale = group.head_dim**-0.5
        count, tokens, _ = qkv.shape
        q, k, v = (part.reshape(-1, tokens, group.head_dim) for part in self._parts(qkv))
        if key_weights is not None:
            key_weights = key_weights.to(qkv.dtype)
        attention = self._logits(q, k, key_weights).softmax(-1)
        self._q, self._attention = q, attention
        out = self._attend(attention, v).view(count, group.num_heads, tokens, group.head_dim)
        self.out = out.transpose(1, 2).reshape(count, tokens, -1)

    def backward(self, delta: Tensor) -> Tensor:
        """Return the gradient of ``qkv``, given that of ``out``."""
        count, tokens, inner = delta.shape
        heads, head_dim = self._group.num_heads, self._group.head_dim
        delta = delta.view(count, tokens, heads, head_dim).transpose(1, 2)
        delta = delta.reshape(count * heads, tokens, head_dim)
        d_logits = torch._softmax_backward_data(
            self._d_attention(delta), self._attention, -1, delta.dtype
        ).mul_(self._scale)
        d_qkv = delta.new_empty(count, tokens, 3 * inner)
        q_part, k_part, v_part = self._parts(d_qkv)
        q_part.copy_(self._d_q(d_logits).view(q_part.shape))
        k_part.copy_((d_logits.transpose(1, 2) @ self._q).view(k_part.shape))
        v_part.copy_((self._attention.transpose(1, 2) @ delta).view(v_part.shape))
        return d_qkv

    def _parts(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """Return views of queries, keys and values, (candidates, heads, tokens, head_dim)."""
        heads, head_dim = self._group.num_heads, self._group.head_dim
        if self._group.by_head:
            return qkv.unflatten(2, (heads, 3, head_dim)).permute(3, 0, 2, 1, 4).unbind(0)
        return qkv.unflatten(2, (heads, head_dim, 3)).permute(4, 0, 2, 1, 3).unbind(0)

    def _logits(self, q: Tensor, k: Tensor, key_weights: Tensor | None) -> Tensor:
        self._k = k
        if key_weights is None:
            return (q * self._scale) @ k.transpose(1, 2)
        return torch.baddbmm(key_weights, q, k.transpose(1, 2), alpha=self._scale)

    def _attend(self, attention: Tensor, v: Tensor) -> Tensor:
        self._v = v
        return attention @ v

    def _d_attention(self, delta: Tensor) -> Tensor:
        return delta @ self._v.transpose(1, 2)

    def _d_q(self, d_logits: Tensor) -> Tensor:
        """Return the gradients of the queries, given those of the logits."""
        return d_logits @ self._k
