"""Attention that sees where tokens are, by AutoFormer's relative positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        self._positions = positions
        self._key_embeddings = key_embeddings[:, : group.head_dim]
        self._value_embeddings = value_embeddings[:, : group.head_dim]
        super().__init__(qkv, group, positions.key_weights)

    def _logits(self, q: Tensor, k: Tensor, key_weights: Tensor | None) -> Tensor:
        bias = self._positions.spread(q @ self._key_embeddings.T)
        logits = bias.baddbmm_(q, k.transpose(1, 2), beta=self._scale, alpha=self._scale)
        return logits if key_weights is None else logits.add_(key_weights)

    def _attend(self, attention: Tensor, v: Tensor) -> Tensor:
        out = self._positions.gather(attention) @ self._value_embeddings
        return out.baddbmm_(attention, v)

    def _d_attention(self, delta: Tensor) -> Tensor:
        bias = self._positions.spread(delta @ self._value_embeddings.T)
        return bias.baddbmm_(delta, self._v.transpose(1, 2))

    def _d_q(self, d_logits: Tensor) -> Tensor:
        embeddings = self._key_embeddings.expand(len(d_logits), -1, -1)
        return super()._d_q(d_logits).baddbmm_(self._positions.gather(d_logits), embeddings)
