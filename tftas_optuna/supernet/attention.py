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
        num_heads: The largest number of heads.
        head_dim: Width of a head.
        by_head: Order of the outputs of ``qkv``. If true it is (head, query/key/value, head_dim),
            so that fewer heads are a prefix; otherwise (head, head_dim, query/key/value), so that
            a smaller width is a prefix.
        within: 1 for the heads that a candidate has and 0 for those that it lacks, shape
            (candidates, 1, 1, heads); None if all have the same number.
    """

    members: slice | list[int]
    num_heads: int
    head_dim: int
    by_head: bool
    within: Tensor | None = None

    def parts(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return views of queries, keys and values, (candidates, tokens, heads, head_dim).

        Args:
            qkv: Shape (candidates, tokens, 3 * inner).
        """
        if self.by_head:
            q, k, v = qkv.unflatten(2, (self.num_heads, 3, self.head_dim)).unbind(3)
        else:
            q, k, v = qkv.unflatten(2, (self.num_heads, self.head_dim, 3)).unbind(4)
        return q, k, v


class Attention:
    """The attention of one block for a group of candidates; the constructor runs it forward.

    Args:
        qkv: Outputs of ``qkv``, shape (candidates, tokens, 3 * inner).
        group: How to cut them into heads.
        key_weights: Logarithm of the number of tokens that each key stands for, shape (tokens,);
            None if every key is one token.
        out: Where to write the outputs; None for a new tensor.

    Attributes:
        out: Outputs of the heads, shape (candidates, tokens, inner); zero for heads that a
            candidate lacks.
    """

    out: Tensor

    def __init__(
        self,
        qkv: Tensor,
        group: HeadGroup,
        key_weights: Tensor | None,
        out: Tensor | None = None,
    ) -> None:
        self._group = group
        self._scale = group.head_dim**-0.5
        count, tokens, _ = qkv.shape
        q, k, v = (self._by_head(part) for part in group.parts(qkv))
        if key_weights is not None:
            key_weights = key_weights.to(qkv.dtype)
        attention = self._logits(q, k, key_weights).softmax(-1)
        self._q, self._attention = q, attention
        sums = self._attend(attention, v).view(count, group.num_heads, tokens, group.head_dim)
        sums = sums.transpose(1, 2)
        self.out = qkv.new_empty(count, tokens, qkv.shape[2] // 3) if out is None else out
        heads = self.out.unflatten(2, (group.num_heads, group.head_dim))
        if group.within is None:
            heads.copy_(sums)
        else:
            torch.mul(sums, group.within.transpose(2, 3), out=heads)

    def backward(self, delta: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the gradient of ``qkv``.

        Args:
            delta: The gradient of :attr:`out`.
            out: Where to write the result; None for a new tensor.
        """
        count, tokens, inner = delta.shape
        heads, head_dim = self._group.num_heads, self._group.head_dim
        delta = delta.view(count, tokens, heads, head_dim).transpose(1, 2)
        if self._group.within is not None:
            delta = delta * self._group.within.permute(0, 3, 1, 2)
        delta = delta.reshape(count * heads, tokens, head_dim)
        d_logits = torch._softmax_backward_data(
            self._d_attention(delta), self._attention, -1, delta.dtype
        ).mul_(self._scale)
        d_qkv = delta.new_empty(count, tokens, 3 * inner) if out is None else out
        parts = (part.transpose(1, 2) for part in self._group.parts(d_qkv))
        q_part, k_part, v_part = parts
        q_part.copy_(self._d_q(d_logits).view(q_part.shape))
        k_part.copy_((d_logits.transpose(1, 2) @ self._q).view(k_part.shape))
        v_part.copy_((self._attention.transpose(1, 2) @ delta).view(v_part.shape))
        return d_qkv

    @staticmethod
    def _by_head(part: Tensor) -> Tensor:
        """Return a part of ``qkv`` in the shape (candidates * heads, tokens, head_dim)."""
        return part.transpose(1, 2).flatten(0, 1)

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


class PairwiseAttention:
    """Attention between very few tokens, by elementwise products over all pairs of them.

    It does the same as :class:`Attention`, in fewer operations, and takes position embeddings for
    every pair of a query and a key.

    Args:
        qkv: Outputs of ``qkv``, shape (candidates, tokens, 3 * inner).
        group: How to cut them into heads.
        key_weights: Logarithm of the number of tokens that each key stands for, shape (tokens,).
        embeddings: What is added to the keys, and what to the values, each of shape (queries,
            keys, 1, head_dim); None if nothing is.
        out: Where to write the outputs; None for a new tensor.

    Attributes:
        out: Outputs of the heads, shape (candidates, tokens, inner); zero for heads that a
            candidate lacks.
    """

    def __init__(
        self,
        qkv: Tensor,
        group: HeadGroup,
        key_weights: Tensor,
        embeddings: tuple[Tensor, Tensor] | None = None,
        out: Tensor | None = None,
    ) -> None:
        self._group = group
        self._scale = group.head_dim**-0.5
        q, k, v = group.parts(qkv)
        # In the order (candidates, queries, keys, heads, head_dim).
        self._q, self._k, self._v = q[:, :, None], k[:, None], v[:, None]
        if embeddings is not None:
            self._k, self._v = self._k + embeddings[0], self._v + embeddings[1]
        logits = torch.add(
            key_weights.to(qkv.dtype)[:, None],
            torch.linalg.vecdot(self._q, self._k),
            alpha=self._scale,
        )
        attention = logits.softmax(2)
        if group.within is not None:
            # Without attention a head adds nothing, forward and backward.
            attention.mul_(group.within)
        self._attention = attention
        heads = None if out is None else out.unflatten(2, (group.num_heads, group.head_dim))
        self.out = torch.sum(attention.unsqueeze(4) * self._v, 2, out=heads).flatten(2)

    def backward(self, delta: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the gradient of ``qkv``; see :meth:`Attention.backward`."""
        group, attention = self._group, self._attention
        delta = delta.unflatten(2, (group.num_heads, group.head_dim))[:, :, None]
        d_logits = torch._softmax_backward_data(
            torch.linalg.vecdot(delta, self._v), attention, 2, delta.dtype
        ).mul_(self._scale)
        if out is None:
            out = delta.new_empty(*delta.shape[:2], 3 * group.num_heads * group.head_dim)
        q_part, k_part, v_part = group.parts(out)
        d_logits = d_logits.unsqueeze(4)
        torch.sum(d_logits * self._k, 2, out=q_part)
        torch.sum(d_logits * self._q, 1, out=k_part)
        torch.sum(attention.unsqueeze(4) * delta, 1, out=v_part)
        return out
