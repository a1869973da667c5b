"""From an architecture to a network, directly and through timm's model registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from timm.data import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
)
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from tftas_optuna.architecture import Architecture, read_architecture
from tftas_optuna.errors import TftasError
from tftas_optuna.families import get_family
from tftas_optuna.models.autoformer import AutoFormer
from tftas_optuna.models.pit import PiT

_COMMON: dict[str, Any] = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": None,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "fixed_input_size": True,
    "classifier": "head",
}
default_cfgs = generate_default_cfgs(
    {
        "tftas_autoformer.untrained": {
            **_COMMON,
            "mean": IMAGENET_INCEPTION_MEAN,
            "std": IMAGENET_INCEPTION_STD,
            "first_conv": "patch_embed.proj",
        },
        "tftas_pit.untrained": {
            **_COMMON,
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "patch_embed.conv",
        },
    }
)


def build_model(
    arch: Architecture,
    *,
    num_classes: int = 1000,
    img_size: int = 224,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
) -> nn.Module:
    """Build the stand-alone network of an architecture, with fresh weights.

    Args:
        arch: What to build.
        num_classes: Outputs of the classifier; 0 for none.
        img_size: Height and width of the input, in pixels.
        in_chans: Channels of the input.
        drop_path_rate: Stochastic depth rate of the last block.

    Returns:
        A module that maps (batch, in_chans, img_size, img_size) to (batch, num_classes).
    """
    return get_family(arch.family).network(
        arch,
        num_classes=num_classes,
        img_size=img_size,
        in_chans=in_chans,
        drop_path_rate=drop_path_rate,
    )


@register_model
def tftas_autoformer(
    pretrained: bool = False,
    *,
    arch: Architecture | dict[str, Any] | str | Path | None = None,
    **kwargs: Any,
) -> AutoFormer:
    """Build an AutoFormer through ``timm.create_model("tftas_autoformer", arch=...)``.

    Args:
        pretrained: Whether to load weights: those of a directory or hub repository that names
            this model (``timm.create_model("local-dir:...", pretrained=True)``). There are none
            by its mere name; pass ``checkpoint_path`` to load a file.
        arch: An architecture, its dictionary, or the path of an exported file. The image size
            and class count of an exported file are the defaults of this model.
        **kwargs: timm's model arguments, such as ``num_classes`` and ``img_size``.

    Raises:
        TftasError: ``arch`` is missing or describes no AutoFormer, or ``pretrained`` is set and
            there are no weights.
    """
    feature_cfg = dict(out_indices=3, feature_cls="getter")
    model: AutoFormer = _create("autoformer", pretrained, arch, feature_cfg, kwargs)
    return model


@register_model
def tftas_pit(
    pretrained: bool = False,
    *,
    arch: Architecture | dict[str, Any] | str | Path | None = None,
    **kwargs: Any,
) -> PiT:
    """Build a PiT through ``timm.create_model("tftas_pit", arch=...)``.

    Args:
        pretrained: As for :func:`tftas_autoformer`.
        arch: As for :func:`tftas_autoformer`.
        **kwargs: timm's model arguments.

    Raises:
        TftasError: ``arch`` is missing or describes no PiT, or ``pretrained`` is set and there
            are no weights.
    """
    feature_cfg = dict(out_indices=(0, 1, 2), feature_cls="hook")
    model: PiT = _create("pit", pretrained, arch, feature_cfg, kwargs)
    return model


def _create(
    family: str,
    pretrained: bool,
    arch: Architecture | dict[str, Any] | str | Path | None,
    feature_cfg: dict[str, Any],
    kwargs: dict[str, Any],
) -> Any:
    name = f"tftas_{family}"
    if pretrained and not kwargs.get("pretrained_cfg"):
        raise TftasError(f"{name} has no pretrained weights; pass checkpoint_path=...")
    if arch is None:
        raise TftasError(f"{name} needs arch=, an exported file or its dictionary")
    defaults: dict[str, Any] = {}
    if isinstance(arch, str | Path):
        arch, defaults = read_architecture(arch)
    elif not isinstance(arch, Architecture):
        arch = Architecture.from_dict(arch)
    if arch.family != family:
        raise TftasError(
            f"{name} builds {family}, not {arch.family} architectures; use tftas_{arch.family}"
        )
    kwargs = {**defaults, **{name: value for name, value in kwargs.items() if value is not None}}
    height, width = to_2tuple(kwargs.get("img_size", 224))
    # timm derives transforms from this entry: let it speak of the model that is built.
    overlay = {"input_size": (kwargs.get("in_chans", 3), height, width)}
    return build_model_with_cfg(
        get_family(family).network,
        name,
        pretrained,
        pretrained_cfg_overlay={**overlay, **kwargs.pop("pretrained_cfg_overlay", {})},
        feature_cfg=feature_cfg,
        architecture=arch,
        **kwargs,
    )
