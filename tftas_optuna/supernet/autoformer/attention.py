"""Attention that sees where tokens are, by AutoFormer's relative positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tftas_optuna.supernet.attention import Attention, HeadGroup

if TYPE_CHECKING:
    from torch import Tensor

    from tftas_optuna.supernet.autoformer.positions import Positions


class RelativeAttention(Attention):
    """Attention with relative positions of keys and values.

    Args:
        qkv: Outputs of ``qkv``, shape (candidates, tokens, 3 * inner).
        group: How to cut them into heads.
        key_embeddings: Relative positions of keys, (embeddings, head_dim).
        value_embeddings: Those of values.
        positions: The tokens.
    """

    def __init__(
        self,
        qkv: Tensor,
        group: HeadGroup,
        key_embeddings: Tensor,
        value_embeddings: Tensor,
        positions: Positions,
    ) -> None:
        self._index = positions.index
        self._features = positions.features.to(qkv.dtype)
        self._key_embeddings = key_embeddings[:, : group.head_dim]
        self._value_embeddings = value_embeddings[:, : group.head_dim]
        super().__init__(qkv, group, positions.key_weights)

    def _logits(self, q: Tensor, k: Tensor, key_weights: Tensor | None) -> Tensor:
        q = self._meeting(q, self._key_embeddings)
        return super()._logits(q, self._placed(k), key_weights)

    def _attend(self, attention: Tensor, v: Tensor) -> Tensor:
        return self._met(super()._attend(attention, self._placed(v)), self._value_embeddings)

    def _d_attention(self, delta: Tensor) -> Tensor:
        return super()._d_attention(self._meeting(delta, self._value_embeddings))

    def _d_q(self, d_logits: Tensor) -> Tensor:
        return self._met(super()._d_q(d_logits), self._key_embeddings)

    def _placed(self, keys: Tensor) -> Tensor:
        """Set the features of the keys beside them, (batch, tokens, head_dim + features)."""
        return torch.cat((keys, self._features.expand(len(keys), -1, -1)), 2)

    def _meeting(self, queries: Tensor, embeddings: Tensor) -> Tensor:
        """Set beside queries what they are to each feature; of the shape of :meth:`_placed`."""
        index = self._index.expand(len(queries), -1, -1)
        return torch.cat((queries, (queries @ embeddings.T).gather(2, index)), 2)

    def _met(self, placed: Tensor, embeddings: Tensor) -> Tensor:
        """Turn sums of :meth:`_placed` over keys into sums of keys with their embeddings."""
        batch, tokens, _ = placed.shape
        count, head_dim = embeddings.shape
        weights = placed.new_zeros(batch, tokens, count)
        index = self._index.expand(batch, -1, -1)
        weights.scatter_add_(2, index, placed[..., head_dim:])
        return (weights @ embeddings).add_(placed[..., :head_dim])
