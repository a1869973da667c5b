"""Attention with AutoFormer's relative position embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tftas_optuna.supernet.attention import Attention, HeadGroup

if TYPE_CHECKING:
    from torch import Tensor


class RelativeAttention(Attention):
    """Attention with relative position embeddings of keys and values.

    Args:
        qkv: Outputs of ``qkv``, shape (candidates, tokens, 3 * inner).
        group: How to cut them into heads.
        embeddings: Position embeddings of the keys and of the values, each of shape (embeddings,
            head_dim) or wider.
        features: Binary features of each key, shape (tokens, features).
        index: The embedding that each query uses for each feature, shape (tokens, features).
        out: Where to write the outputs; None for a new tensor.
    """

    def __init__(
        self,
        qkv: Tensor,
        group: HeadGroup,
        embeddings: tuple[Tensor, Tensor],
        features: Tensor,
        index: Tensor,
        out: Tensor | None = None,
    ) -> None:
        self._index = index
        self._features = features.to(qkv.dtype)
        keys, values = embeddings
        self._key_embeddings = keys[:, : group.head_dim]
        self._value_embeddings = values[:, : group.head_dim]
        super().__init__(qkv, group, None, out)

    def _logits(self, q: Tensor, k: Tensor, key_weights: Tensor | None) -> Tensor:
        q = self._with_products(q, self._key_embeddings)
        return super()._logits(q, self._with_features(k), key_weights)

    def _attend(self, attention: Tensor, v: Tensor) -> Tensor:
        return self._fold_features(
            super()._attend(attention, self._with_features(v)), self._value_embeddings
        )

    def _d_attention(self, delta: Tensor) -> Tensor:
        return super()._d_attention(self._with_products(delta, self._value_embeddings))

    def _d_q(self, d_logits: Tensor) -> Tensor:
        return self._fold_features(super()._d_q(d_logits), self._key_embeddings)

    def _with_features(self, keys: Tensor) -> Tensor:
        """Append their features to the keys, shape (batch, tokens, head_dim + features)."""
        return torch.cat((keys, self._features.expand(len(keys), -1, -1)), 2)

    def _with_products(self, queries: Tensor, embeddings: Tensor) -> Tensor:
        """Append each query's product with the embedding of every feature of the keys."""
        index = self._index.expand(len(queries), -1, -1)
        return torch.cat((queries, (queries @ embeddings.T).gather(2, index)), 2)

    def _fold_features(self, sums: Tensor, embeddings: Tensor) -> Tensor:
        """Replace sums of features over the keys by the sums of their embeddings."""
        batch, tokens, _ = sums.shape
        count, head_dim = embeddings.shape
        weights = sums.new_zeros(batch, tokens, count)
        index = self._index.expand(batch, -1, -1)
        weights.scatter_add_(2, index, sums[..., head_dim:])
        return (weights @ embeddings).add_(sums[..., :head_dim])
