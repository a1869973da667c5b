"""The blocks of AutoFormer: attention with relative positions, and an MLP."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from timm.layers import (
    DropPath,
    LayerNorm,
    Mlp,
    maybe_add_mask,
    resolve_self_attn_mask,
    use_fused_attn,
)
from torch import Tensor, nn

from tftas_optuna.models.relative_position import (
    RelativePosition2d,
    key_bias,
    key_positions,
    query_embeddings,
    value_sum,
)


class Attention(nn.Module):
    """Multi-head self-attention with heads of fixed width and relative positions.

    By default it uses torch's fused kernels, with relative positions as further components of the
    vectors, see :func:`tftas_optuna.models.relative_position.query_embeddings`. If these kernels
    are disabled, by timm's ``set_fused_attn`` or torch's ``sdpa_kernel(SDPBackend.MATH)``, it
    computes factorised products instead, whose operations can be counted and which can be
    differentiated twice.

    Args:
        dim: Width of the tokens.
        num_heads: Number of heads.
        head_dim: Width of a head; ``num_heads * head_dim`` may differ from ``dim``.
        max_distance: Largest relative offset that has its own embedding; None for attention
            without relative positions.
        grid: Rows and columns of the patch grid.
        attn_drop: Dropout rate of the attention.
        proj_drop: Dropout rate of the output.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        head_dim: int,
        max_distance: int | None,
        grid: tuple[int, int],
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.set_heads(num_heads, head_dim)
        self.fused_attn = use_fused_attn()
        inner = num_heads * head_dim
        self.qkv = nn.Linear(dim, 3 * inner)
        self.relative_key = self.relative_value = None
        if max_distance is not None:
            self.relative_key = RelativePosition2d(head_dim, max_distance, grid)
            self.relative_value = RelativePosition2d(head_dim, max_distance, grid)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(inner, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Apply attention to tokens, shape (batch, tokens, dim), with masks as in timm."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        fused = self.fused_attn and _fused_kernels()
        attend = self._fused if fused else self._unfused
        out = attend(q, k, v, attn_mask, is_causal)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))

    def set_heads(self, num_heads: int, head_dim: int) -> None:
        """Set number and width of the heads; the weights stay as they are."""
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.scale = head_dim**-0.5

    def on_grid(self, grid: tuple[int, int]) -> Attention:
        """Return a copy for another grid of patches that shares the weights."""
        other = copy.copy(self)
        other._modules = {
            name: module.on_grid(grid) if isinstance(module, RelativePosition2d) else module
            for name, module in self._modules.items()
        }
        return other

    def _fused(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        drop = self.attn_drop.p if self.training else 0.0
        if self.relative_key is None or self.relative_value is None:
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=attn_mask, dropout_p=drop, is_causal=is_causal
            )
        by_key = torch.einsum("bhid,ied->bhie", q, query_embeddings(*self.relative_key()))
        positions = key_positions(*self.relative_key.grid, like=k).expand(*k.shape[:2], -1, -1)
        out = F.scaled_dot_product_attention(
            torch.cat((q, by_key), dim=-1),
            torch.cat((k, positions), dim=-1),
            torch.cat((v, positions), dim=-1),
            attn_mask=attn_mask,
            dropout_p=drop,
            is_causal=is_causal,
            scale=self.scale,
        )
        out, weights = out.split((self.head_dim, positions.shape[-1]), dim=-1)
        return out + torch.einsum(
            "bhie,ied->bhid", weights, query_embeddings(*self.relative_value())
        )

    def _unfused(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        q = q * self.scale
        logits = q @ k.transpose(-2, -1)
        if self.relative_key is not None:
            logits = logits + key_bias(q, *self.relative_key())
        mask = resolve_self_attn_mask(logits.shape[-1], logits, attn_mask, is_causal)
        attention = self.attn_drop(maybe_add_mask(logits, mask).softmax(dim=-1))
        out = attention @ v
        if self.relative_value is not None:
            out = out + value_sum(attention, *self.relative_value())
        return out


def _fused_kernels() -> bool:
    # torch.compile cannot trace these settings, and chooses the kernel itself.
    kernels = torch.backends.cuda
    return torch.compiler.is_compiling() or (
        kernels.flash_sdp_enabled() or kernels.mem_efficient_sdp_enabled()
    )


class Block(nn.Module):
    """Pre-norm transformer block with stochastic depth."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        attention: Attention,
        layer_norm_eps: float,
        proj_drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=layer_norm_eps)
        self.attn = attention
        self.drop_path1 = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = LayerNorm(dim, eps=layer_norm_eps)
        self.mlp = Mlp(dim, hidden_dim, drop=proj_drop)
        self.drop_path2 = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        x = x + self.drop_path1(self.attn(self.norm1(x), attn_mask, is_causal))
        return x + self.drop_path2(self.mlp(self.norm2(x)))

    def on_grid(self, grid: tuple[int, int]) -> Block:
        """Return a copy for another grid of patches that shares the weights."""
        other = copy.copy(self)
        other._modules = {**self._modules, "attn": self.attn.on_grid(grid)}
        return other
