"""The stand-alone PiT network: timm's own, built from an architecture."""

from __future__ import annotations

from typing import Any, ClassVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.pit import PoolingVisionTransformer

from tftas_optuna.architecture import PiTArchitecture


class PiT(PoolingVisionTransformer):
    """timm's Pooling-based Vision Transformer.

    Args:
        architecture: What to build.
        **kwargs: Passed on to timm's ``PoolingVisionTransformer``: ``img_size``, ``in_chans``,
            ``num_classes``, ``drop_path_rate``, ...

    Attributes:
        default_architecture: PiT-Ti of the paper, timm's ``pit_ti_224``.
        timm_cfg: What timm's configuration says of it beyond the usual.
        feature_cfg: How timm takes features from it.
    """

    default_architecture: ClassVar[PiTArchitecture] = PiTArchitecture(
        32, depth=(2, 6, 4), num_heads=(2, 4, 8), mlp_ratio=4
    )
    timm_cfg: ClassVar[dict[str, Any]] = {
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "patch_embed.conv",
    }
    feature_cfg: ClassVar[dict[str, Any]] = {"out_indices": (0, 1, 2), "feature_cls": "hook"}

    def __init__(self, architecture: PiTArchitecture, **kwargs: Any) -> None:
        super().__init__(
            patch_size=architecture.patch_size,
            stride=architecture.stride,
            base_dims=(architecture.base_dim,) * len(architecture.depth),
            depth=architecture.depth,
            heads=architecture.num_heads,
            mlp_ratio=architecture.mlp_ratio,
            **kwargs,
        )
        self.architecture = architecture
