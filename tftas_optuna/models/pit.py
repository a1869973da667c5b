"""The stand-alone PiT network: timm's own, built from an architecture."""

from __future__ import annotations

from typing import Any

from timm.models.pit import PoolingVisionTransformer

from tftas_optuna.architecture import PiTArchitecture


class PiT(PoolingVisionTransformer):
    """timm's Pooling-based Vision Transformer.

    Args:
        architecture: What to build.
        **kwargs: Passed on to timm's ``PoolingVisionTransformer``: ``img_size``, ``in_chans``,
            ``num_classes``, ``drop_path_rate``, ...
    """

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
