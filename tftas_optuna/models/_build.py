"""From an architecture to a network, directly and through timm's model registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model

from tftas_optuna.architecture import Architecture, read_architecture
from tftas_optuna.architecture.parts import FAMILIES, family_names
from tftas_optuna.errors import TftasError
from tftas_optuna.models.positions import fit_positions
from tftas_optuna.models.undrawn import Undrawn

if TYPE_CHECKING:
    from torch import nn

# What timm knows of a model before it is built; the network's own `timm_cfg` is added then.
_UNBUILT: dict[str, Any] = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": None,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "fixed_input_size": True,
    "classifier": "head",
}
default_cfgs: dict[str, Any] = {}


def build_model(
    arch: Architecture,
    *,
    img_size: int | tuple[int, int],
    num_classes: int,
    in_chans: int = 3,
    **kwargs: Any,
) -> nn.Module:
    """Build the stand-alone network of an architecture, with fresh weights.

    An architecture has no sizes of its own. :meth:`Candidate.build` and :meth:`SearchSpace.build`
    do the same with those of the study or the space.

    Args:
        arch: What to build.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier; 0 for none.
        in_chans: Channels of the input.
        **kwargs: timm's other model arguments, such as ``drop_path_rate``.

    Returns:
        What ``timm.create_model("tftas_...", arch=...)`` returns: a module with timm's interface
        that maps (batch, in_chans, img_size, img_size) to (batch, num_classes).
    """
    # The dictionary, not the object, so that timm can write a configuration of the model.
    model: nn.Module = timm.create_model(
        _timm_name(arch.family),
        arch=arch.to_dict(),
        img_size=img_size,
        num_classes=num_classes,
        in_chans=in_chans,
        **kwargs,
    )
    return model


def build_undrawn(
    arch: Architecture, *, img_size: int, num_classes: int, in_chans: int
) -> nn.Module:
    """Build a network whose weights are whatever memory holds: drawing them takes longest."""
    with Undrawn():
        return build_model(arch, img_size=img_size, num_classes=num_classes, in_chans=in_chans)


def _timm_name(family: str) -> str:
    return f"tftas_{family}"


def register_with_timm(family: str) -> None:
    """Make a family a model of timm's, without loading it."""

    def create(
        pretrained: bool = False,
        *,
        arch: Architecture | dict[str, Any] | str | Path | None = None,
        **kwargs: Any,
    ) -> nn.Module:
        """Build a network of this family through ``timm.create_model("tftas_...", arch=...)``.

        Args:
            pretrained: Whether to load weights: those of a directory or hub repository that
                names this model (``timm.create_model("local-dir:...", pretrained=True)``). There
                are none by its mere name; pass ``checkpoint_path`` to load a file.
            arch: An architecture, its dictionary, or the path of an exported file, whose image
                size and class count are then the defaults of this model. Without one the
                network's ``default_architecture`` is built.
            **kwargs: timm's model arguments, such as ``num_classes`` and ``img_size``.

        Raises:
            TftasError: ``arch`` describes no network of this family or is missing where there is
                no default, or ``pretrained`` is set and there are no weights.
        """
        return _create(family, pretrained, arch, kwargs)

    if is_model(_timm_name(family)):
        return
    create.__name__ = create.__qualname__ = _timm_name(family)
    default_cfgs.update(generate_default_cfgs({f"{_timm_name(family)}.untrained": _UNBUILT}))
    register_model(create)


def _create(
    family: str,
    pretrained: bool,
    arch: Architecture | dict[str, Any] | str | Path | None,
    kwargs: dict[str, Any],
) -> nn.Module:
    name = _timm_name(family)
    if pretrained and not kwargs.get("pretrained_cfg"):
        raise TftasError(f"{name} has no pretrained weights; pass checkpoint_path=...")
    network: Any = FAMILIES[family].network
    defaults: dict[str, Any] = {}
    if arch is None:
        arch = getattr(network, "default_architecture", None)
        if arch is None:
            raise TftasError(f"{name} needs arch=, an exported file or its dictionary")
    elif isinstance(arch, str | Path):
        arch, defaults = read_architecture(arch)
    if not isinstance(arch, Architecture):
        arch = Architecture.from_dict(arch)
    if arch.family != family:
        raise TftasError(
            f"{name} builds {family}, not {arch.family} architectures; use"
            f" {_timm_name(arch.family)}"
        )
    kwargs = {**defaults, **{name: value for name, value in kwargs.items() if value is not None}}
    known = kwargs.get("pretrained_cfg")
    source = _source_size(known) if pretrained and not isinstance(known, str) else None
    for size, least in (("in_chans", 1), ("num_classes", 0)):
        if kwargs.get(size, least) < least:
            raise TftasError(f"{size} is {kwargs[size]}, allowed is {least} or more")
    height, width = to_2tuple(kwargs.get("img_size", (source or _UNBUILT["input_size"])[1:]))
    kwargs["img_size"] = (height, width)
    if not kwargs.get("dynamic_img_pad"):
        # Says so where the image is too small.
        arch.costs(img_size=min(height, width), num_classes=0)
    # timm derives transforms from these entries: let them speak of the model that is built. While
    # it loads weights, though, their channels are those of the weights, and it adapts the first
    # convolution from them; so is their size, and positions are resampled from it.
    built = (kwargs.get("in_chans", 3), height, width)
    overlay: dict[str, Any] = {"input_size": built}
    if not known or isinstance(known, str):
        overlay = {**getattr(network, "timm_cfg", {}), **overlay}
    elif source:
        overlay["input_size"] = source
    asked = kwargs.pop("pretrained_cfg_overlay", {})
    features = getattr(network, "feature_cfg", {})
    model = build_model_with_cfg(
        network,
        name,
        pretrained,
        pretrained_cfg_overlay={**overlay, **asked},
        feature_cfg=dict(features(arch) if callable(features) else features),
        architecture=arch,
        **{"pretrained_filter_fn": fit_positions, **kwargs},
    )
    if "input_size" not in asked and hasattr(model, "pretrained_cfg"):
        model.pretrained_cfg["input_size"] = built
    return model


def _source_size(known: Any) -> tuple[int, int, int] | None:
    """Return channels, height and width of the weights that are loaded; None if nothing tells."""
    told = known.get("input_size") if isinstance(known, dict) else known.input_size
    return tuple(told) if told else None


for _family in family_names():
    register_with_timm(_family)
