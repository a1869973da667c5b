"""The stand-alone AutoFormer network, based on timm's Vision Transformer."""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from typing import Any, ClassVar, cast

import torch
from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.layers import LayerNorm, to_2tuple, trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tftas_optuna.architecture.autoformer import AutoFormerArchitecture
from tftas_optuna.errors import TftasError
from tftas_optuna.models._arguments import check_arguments, check_named, check_pooling
from tftas_optuna.models.blocks import Attention, Block
from tftas_optuna.models.relative_position import RelativePosition2d

_POOLINGS = ("", "avg", "avgmax", "max", "token")
# Arguments of timm that are the same in every AutoFormer; None if no value is equivalent.
_FIXED: dict[str, Any] = {
    "qkv_bias": True,
    "qk_norm": False,
    "scale_attn_norm": False,
    "scale_mlp_norm": False,
    "proj_bias": True,
    "init_values": None,
    "class_token": True,
    "no_embed_class": False,
    "reg_tokens": 0,
    "pre_norm": False,
    "final_norm": True,
    "fc_norm": False,
    "fix_init": False,
    "embed_layer": None,
    "embed_norm_layer": None,
    "norm_layer": None,
    "act_layer": None,
    "block_fn": None,
    "mlp_layer": None,
    "attn_layer": None,
}


class AutoFormer(VisionTransformer):
    """Vision Transformer with per-block heads and MLP ratios.

    A timm ``VisionTransformer`` except for its blocks, so timm's feature extraction, classifier
    handling, layer decay and input resizing work on it. Arguments of timm that the architecture
    defines, or that are the same in every AutoFormer, may not have other values.

    Args:
        architecture: The architecture.
        img_size: Height and width of the input, in pixels.
        in_chans: Channels of the input.
        num_classes: Outputs of the classifier; 0 for none.
        global_pool: How tokens are pooled; by default as in the architecture.
        pool_include_prefix: Whether the class token is pooled too.
        dynamic_img_size: Whether images may have other sizes than ``img_size``; position
            embeddings are then resampled, and relative offsets recomputed, for every size.
        dynamic_img_pad: Whether images are padded to whole patches.
        drop_rate: Dropout rate before the classifier.
        pos_drop_rate: Dropout rate after the position embedding.
        patch_drop_rate: Share of the patches dropped in training; not with relative positions.
        proj_drop_rate: Dropout rate of attention outputs and MLPs.
        attn_drop_rate: Dropout rate of the attention.
        drop_path_rate: Stochastic depth rate of the last block, rising linearly from 0.
        weight_init: ``"skip"`` skips the initialisation of the weights, as in timm.
        device: Device of the parameters.
        dtype: Type of the parameters.
        **kwargs: Other arguments of timm's ``VisionTransformer``, if they agree with the network.

    Attributes:
        default_architecture: AutoFormer-Tiny of the paper.
        timm_cfg: Entries of timm's configuration that differ from the defaults.

    Raises:
        TftasError: An argument contradicts the architecture or is not supported.
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

    def __init__(
        self,
        architecture: AutoFormerArchitecture,
        *,
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: Any = None,
        pool_include_prefix: bool = False,
        dynamic_img_size: bool = False,
        dynamic_img_pad: bool = False,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        patch_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        weight_init: str = "",
        device: Any = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        defined = {
            name: getattr(architecture, name)
            for name in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
        }
        defined["pos_embed"] = "learn" if architecture.abs_pos else "none"
        check_arguments(architecture, kwargs, defined=defined, fixed=_FIXED)
        global_pool = architecture.global_pool if global_pool is None else global_pool
        check_pooling(architecture, global_pool, _POOLINGS)
        if weight_init not in ("", "skip"):
            raise TftasError(f"weight_init is {weight_init!r}; AutoFormer's own is '', or 'skip'")
        if patch_drop_rate and architecture.relative_position:
            raise TftasError(
                f"patch_drop_rate is {patch_drop_rate!r}; patches with relative positions cannot"
                " be left out"
            )
        super().__init__(
            img_size=img_size,
            patch_size=architecture.patch_size,
            in_chans=in_chans,
            num_classes=num_classes,
            global_pool=global_pool,
            embed_dim=architecture.embed_dim,
            depth=0,
            pos_embed=defined["pos_embed"],
            fc_norm=False,
            pool_include_prefix=pool_include_prefix,
            dynamic_img_size=dynamic_img_size,
            dynamic_img_pad=dynamic_img_pad,
            norm_layer=partial(LayerNorm, eps=architecture.layer_norm_eps),
            drop_rate=drop_rate,
            pos_drop_rate=pos_drop_rate,
            patch_drop_rate=patch_drop_rate,
            weight_init="skip",
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
                    layer_norm_eps=architecture.layer_norm_eps,
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
        if weight_init != "skip":
            self.init_weights(needs_reset=False)
        self.to(device=device, dtype=dtype)

    @staticmethod
    def timm_model(
        architecture: AutoFormerArchitecture, **kwargs: Any
    ) -> tuple[str, dict[str, Any]]:
        """Return name and arguments of timm's own ``VisionTransformer`` of an architecture.

        Args:
            architecture: An architecture with nothing beyond timm's class.
            **kwargs: Further arguments for ``timm.create_model``.

        Raises:
            TftasError: An argument contradicts the architecture.
        """
        defined = {
            "patch_size": architecture.patch_size,
            "embed_dim": architecture.embed_dim,
            "depth": architecture.depth,
            "num_heads": architecture.num_heads[0],
            "mlp_ratio": architecture.mlp_ratio[0],
            "pos_embed": "learn" if architecture.abs_pos else "none",
        }
        check_named(architecture, kwargs, defined=defined, fixed=_FIXED)
        pooling = {"global_pool": architecture.global_pool, "fc_norm": False}
        return "vit_small_patch16_224", {**pooling, **kwargs, **defined}

    @staticmethod
    def feature_cfg(architecture: AutoFormerArchitecture) -> dict[str, Any]:
        """Return timm's feature configuration: features of the last three blocks, or of all."""
        return {"out_indices": min(3, architecture.depth), "feature_cls": "getter"}

    def init_weights(self, mode: str = "", needs_reset: bool = True) -> None:
        """Initialise weights as AutoFormer does: truncated normal(0.02), also for the class token.

        Raises:
            TftasError: The mode is not supported.
        """
        if mode not in ("", "reset"):
            raise TftasError(f"mode is {mode!r}; AutoFormer's own way is ''")
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

    def forward_features(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Return the tokens after the final norm; see timm's ``VisionTransformer``."""
        network = self._for_images(x)
        features: Tensor = VisionTransformer.forward_features(network, x, attn_mask, is_causal)
        return features

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of several blocks; see timm's ``VisionTransformer``."""
        network = self._for_images(x)
        return VisionTransformer.forward_intermediates(network, x, *args, **kwargs)

    def _for_images(self, x: Tensor) -> AutoFormer:
        """Return this network, or for images of another size a copy that shares its weights.

        The grid of patches is not changed in place, because other passes may run at the same
        time, or run again for gradient checkpointing.
        """
        if not self.dynamic_img_size or not self.architecture.relative_position:
            return self
        grid = tuple(self.patch_embed.dynamic_feat_size(x.shape[-2:]))
        if grid == tuple(self.patch_embed.grid_size):
            return self
        network = copy.copy(self)
        blocks = nn.Sequential(*(cast("Block", block).on_grid(grid) for block in self.blocks))
        network._modules = {**self._modules, "blocks": blocks}
        return network

    def set_input_size(self, img_size: Any = None, patch_size: Any = None) -> None:
        """Change the input resolution; tables of relative positions stay the same.

        Raises:
            TftasError: The patch size differs from that of the architecture.
        """
        side = self.architecture.patch_size
        if patch_size is not None and to_2tuple(patch_size) != (side, side):
            raise TftasError(
                f"patch_size is {patch_size!r}, the architecture has {side}; give another"
                " architecture"
            )
        super().set_input_size(img_size=img_size)
        for module in self.modules():
            if isinstance(module, RelativePosition2d):
                module.set_grid(self.patch_embed.grid_size)

    def become(self, architecture: AutoFormerArchitecture) -> bool:
        """Become the network of an architecture with as many blocks or fewer, but for the weights.

        Weights keep their shapes; those of the architecture have to be given with every call, by
        :func:`torch.func.functional_call`.

        Returns:
            Whether that is possible; if not, nothing has changed.
        """
        blocks = self.__dict__.setdefault("_built", tuple(self.blocks))
        own = self.architecture
        sizes = {name: getattr(own, name) for name in ("embed_dim", "num_heads", "mlp_ratio")}
        alike = dataclasses.replace(architecture, **sizes) == own
        if not alike or architecture.depth > len(blocks):
            return False
        self.architecture = architecture
        self.blocks = nn.Sequential(*blocks[: architecture.depth])
        for block, num_heads, head_dim in zip(
            self.blocks, architecture.num_heads, architecture.head_dims, strict=True
        ):
            cast("Block", block).attn.set_heads(num_heads, head_dim)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.normalized_shape = (architecture.embed_dim,)
        return True

    def __prepare_scriptable__(self) -> AutoFormer:
        # torch.jit.script calls this first.
        raise TftasError(
            "AutoFormer networks cannot be scripted; use torch.jit.trace, or `tftas-optuna export"
            " -f torchscript`"
        )
