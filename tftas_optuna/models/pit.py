"""The stand-alone PiT network: timm's network, built from an architecture."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any, ClassVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.pit import PoolingVisionTransformer
from torch import nn

from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.models._arguments import check_arguments, check_named, check_pooling

# Arguments of timm's class that the architecture does not define.
_FREE = {
    *("img_size", "in_chans", "num_classes", "global_pool", "drop_rate", "pos_drop_rate"),
    *("proj_drop_rate", "attn_drop_rate", "drop_path_rate", "device", "dtype"),
}
_FIXED = {"stem_type": "overlap", "distilled": False}


class PiT(PoolingVisionTransformer):
    """timm's Pooling-based Vision Transformer.

    Args:
        architecture: The architecture.
        **kwargs: Arguments of timm's ``PoolingVisionTransformer`` for its input, classifier,
            pooling and dropout. Those that the architecture defines, or that are the same in
            every PiT, may not have other values.

    Attributes:
        default_architecture: PiT-Ti of the paper, timm's ``pit_ti_224``.
        timm_cfg: Entries of timm's configuration that differ from the defaults.

    Raises:
        TftasError: An argument contradicts the architecture or is not supported.
    """

    default_architecture: ClassVar[PiTArchitecture] = PiTArchitecture(
        32, depth=(2, 6, 4), num_heads=(2, 4, 8), mlp_ratio=4
    )
    timm_cfg: ClassVar[dict[str, Any]] = {
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "patch_embed.conv",
    }

    def __init__(self, architecture: PiTArchitecture, **kwargs: Any) -> None:
        defined = _defined(architecture)
        free = {name: kwargs.pop(name) for name in _FREE & kwargs.keys()}
        check_arguments(architecture, kwargs, defined=defined, fixed=_FIXED)
        check_pooling(architecture, free.get("global_pool", "token"), ("", "token"))
        super().__init__(**defined, **free)
        self.architecture = architecture

    def become(self, architecture: PiTArchitecture) -> bool:
        """Become the network of an architecture with as many blocks or fewer, but for the weights.

        See ``tftas_optuna.models.AutoFormer.become``.
        """
        stages: Any = self.transformers
        built = self.__dict__.setdefault("_built", [tuple(stage.blocks) for stage in stages])
        own = self.architecture
        sizes = {n: getattr(own, n) for n in ("base_dim", "depth", "num_heads", "mlp_ratio")}
        alike = dataclasses.replace(architecture, **sizes) == own
        deeper = any(map(operator.gt, architecture.depth, map(len, built)))
        if not alike or deeper or len(architecture.depth) != len(built):
            return False
        self.architecture = architecture
        before = architecture.widths[0]
        for stage, blocks, depth, width, num_heads in zip(
            stages,
            built,
            architecture.depth,
            architecture.widths,
            architecture.num_heads,
            strict=True,
        ):
            stage.blocks = nn.Sequential(*blocks[:depth])
            for block in stage.blocks:
                attention, head_dim = block.attn, width // num_heads
                attention.num_heads, attention.head_dim = num_heads, head_dim
                attention.attn_dim, attention.scale = width, head_dim**-0.5
                block.norm1.normalized_shape = block.norm2.normalized_shape = (width,)
            if stage.pool is not None:
                # It convolves every channel by itself.
                stage.pool.conv.groups = before
            before = width
        self.norm.normalized_shape = (before,)
        return True

    @staticmethod
    def timm_model(architecture: PiTArchitecture, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        """Return name and arguments of timm's own network; see ``AutoFormer.timm_model``."""
        defined = _defined(architecture)
        check_named(architecture, kwargs, defined=defined, fixed=_FIXED)
        return "pit_ti_224", {**kwargs, **defined}

    @staticmethod
    def feature_cfg(architecture: PiTArchitecture) -> dict[str, Any]:
        """Return timm's feature configuration: features after every stage."""
        return {"out_indices": tuple(range(len(architecture.depth))), "feature_cls": "hook"}


def _defined(architecture: PiTArchitecture) -> dict[str, Any]:
    """Return the arguments of timm's class that an architecture defines."""
    return {
        "patch_size": architecture.patch_size,
        "stride": architecture.stride,
        "base_dims": (architecture.base_dim,) * len(architecture.depth),
        "depth": architecture.depth,
        "heads": architecture.num_heads,
        "mlp_ratio": architecture.mlp_ratio,
    }
