"""The stand-alone AutoFormer network on timm's Vision Transformer."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.layers import DropPath, LayerNorm, Mlp, trunc_normal_, use_fused_attn
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tftas_optuna.architecture.autoformer import LAYER_NORM_EPS, AutoFormerArchitecture
from tftas_optuna.models.relative_position import (
    RelativePosition2d,
    key_bias,
    places,
    seen_from,
    value_sum,
)


class Attention(nn.Module):
    """Multi-head self-attention with heads of fixed width and relative positions.

    It runs in torch's fused kernels, relative positions included: see
    :func:`tftas_optuna.models.relative_position.seen_from`. Where those are switched off, by
    timm's ``set_fused_attn`` or torch's ``sdpa_kernel(SDPBackend.MATH)``, it is written out: in
    factorised products whose operations can be counted and whose gradients have gradients.

    Args:
        dim: Width of the tokens.
        num_heads: Number of heads.
        head_dim: Width of a head; ``num_heads * head_dim`` need not equal ``dim``.
        max_distance: Largest relative offset with an embedding of its own; None for attention
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
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.scale = head_dim**-0.5
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

    def forward(self, x: Tensor) -> Tensor:
        """Attend, shape (batch, tokens, dim) in and out."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        fused = self.fused_attn and _fused_kernels()
        out = self._fused(q, k, v) if fused else self._written_out(q, k, v)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))

    def _fused(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        drop = self.attn_drop.p if self.training else 0.0
        if self.relative_key is None or self.relative_value is None:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        by_key = torch.einsum("bhid,ied->bhie", q, seen_from(*self.relative_key()))
        where = places(*self.relative_key.grid, like=k).expand(*k.shape[:2], -1, -1)
        out = F.scaled_dot_product_attention(
            torch.cat((q, by_key), dim=-1),
            torch.cat((k, where), dim=-1),
            torch.cat((v, where), dim=-1),
            dropout_p=drop,
            scale=self.scale,
        )
        out, weights = out.split((self.head_dim, where.shape[-1]), dim=-1)
        return out + torch.einsum("bhie,ied->bhid", weights, seen_from(*self.relative_value()))

    def _written_out(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = q * self.scale
        logits = q @ k.transpose(-2, -1)
        if self.relative_key is not None:
            logits = logits + key_bias(q, *self.relative_key())
        attention = self.attn_drop(logits.softmax(dim=-1))
        out = attention @ v
        if self.relative_value is not None:
            out = out + value_sum(attention, *self.relative_value())
        return out


def _fused_kernels() -> bool:
    # Compilers cannot ask for the setting, and choose for themselves.
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
        proj_drop: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = attention
        self.drop_path1 = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim, hidden_dim, drop=proj_drop)
        self.drop_path2 = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class AutoFormer(VisionTransformer):
    """Vision Transformer with per-block heads and MLP ratios.

    A timm ``VisionTransformer`` in all but its blocks, so timm's feature extraction, classifier
    handling, layer decay and input resizing work on it.

    Args:
        architecture: What to build.
        img_size: Height and width of the input, in pixels.
        in_chans: Channels of the input.
        num_classes: Outputs of the classifier; 0 for none.
        drop_rate: Dropout rate before the classifier.
        pos_drop_rate: Dropout rate after the position embedding.
        proj_drop_rate: Dropout rate of attention outputs and MLPs.
        attn_drop_rate: Dropout rate of the attention.
        drop_path_rate: Stochastic depth rate of the last block, rising linearly from 0.
        device: Where the parameters live.
        dtype: Type of the parameters.
        **kwargs: Passed on to timm's ``VisionTransformer``.

    Attributes:
        default_architecture: AutoFormer-Tiny of the paper.
        timm_cfg: What timm's configuration says of it beyond the usual.
        feature_cfg: How timm takes features from it.
    """

    default_architecture: ClassVar[AutoFormerArchitecture] = AutoFormerArchitecture(
        192,
        num_heads=(3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3, 3),
        mlp_ratio=(3.5, 3.5, 3.0, 3.5, 3.0, 3.0, 4.0, 4.0, 3.5, 4.0, 3.5, 4.0, 3.5),
    )
    timm_cfg: ClassVar[dict[str, Any]] = {
        "mean": IMAGENET_INCEPTION_MEAN,
        "std": IMAGENET_INCEPTION_STD,
        "first_conv": "patch_embed.proj",
    }
    feature_cfg: ClassVar[dict[str, Any]] = {"out_indices": 3, "feature_cls": "getter"}

    def __init__(
        self,
        architecture: AutoFormerArchitecture,
        *,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: Any = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("global_pool", architecture.global_pool)
        super().__init__(
            img_size=img_size,
            patch_size=architecture.patch_size,
            in_chans=in_chans,
            num_classes=num_classes,
            embed_dim=architecture.embed_dim,
            depth=0,
            pos_embed="learn" if architecture.abs_pos else "none",
            fc_norm=False,
            norm_layer=partial(LayerNorm, eps=LAYER_NORM_EPS),
            drop_rate=drop_rate,
            pos_drop_rate=pos_drop_rate,
            weight_init="skip",
            **kwargs,
        )
        self.architecture = architecture
        dim, max_distance = architecture.embed_dim, architecture.max_relative_position
        rates = torch.linspace(0, drop_path_rate, architecture.depth, device="cpu").tolist()
        self.blocks = nn.Sequential(
            *(
                Block(
                    dim,
                    hidden_dim,
                    Attention(
                        dim,
                        num_heads,
                        head_dim,
                        max_distance if architecture.relative_position else None,
                        self.patch_embed.grid_size,
                        attn_drop=attn_drop_rate,
                        proj_drop=proj_drop_rate,
                    ),
                    proj_drop=proj_drop_rate,
                    drop_path=rate,
                )
                for num_heads, head_dim, hidden_dim, rate in zip(
                    architecture.num_heads,
                    architecture.head_dims,
                    architecture.hidden_dim,
                    rates,
                    strict=True,
                )
            )
        )
        self.feature_info = [
            dict(module=f"blocks.{i}", num_chs=dim, reduction=architecture.patch_size)
            for i in range(architecture.depth)
        ]
        self.init_weights(needs_reset=False)
        self.to(device=device, dtype=dtype)

    def init_weights(self, mode: str = "", needs_reset: bool = True) -> None:
        """Draw weights as AutoFormer does: truncated normal(0.02), also for the class token."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif needs_reset and callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        trunc_normal_(self.cls_token, std=0.02)
        if self.pos_embed is not None:
            trunc_normal_(self.pos_embed, std=0.02)

    def set_input_size(self, img_size: Any = None, patch_size: Any = None) -> None:
        """Change the input resolution, keeping the relative tables."""
        super().set_input_size(img_size=img_size, patch_size=patch_size)
        for module in self.modules():
            if isinstance(module, RelativePosition2d):
                module.set_grid(self.patch_embed.grid_size)
