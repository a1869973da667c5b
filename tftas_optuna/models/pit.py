"""The stand-alone PiT network: timm's network, built from an architecture."""

from __future__ import annotations

from typing import Any, ClassVar

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.pit import PoolingVisionTransformer

from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.models._arguments import check_arguments, check_pooling

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
        defined: dict[str, Any] = {
            "patch_size": architecture.patch_size,
            "stride": architecture.stride,
            "base_dims": (architecture.base_dim,) * len(architecture.depth),
            "depth": architecture.depth,
            "heads": architecture.num_heads,
            "mlp_ratio": architecture.mlp_ratio,
        }
        free = {name: kwargs.pop(name) for name in _FREE & kwargs.keys()}
        check_arguments(architecture, kwargs, defined=defined, fixed=_FIXED)
        check_pooling(architecture, free.get("global_pool", "token"), ("", "token"))
        super().__init__(**defined, **free)
        self.architecture = architecture

    @staticmethod
    def feature_cfg(architecture: PiTArchitecture) -> dict[str, Any]:
        """Return timm's feature configuration: features after every stage."""
        return {"out_indices": tuple(range(len(architecture.depth))), "feature_cls": "hook"}
