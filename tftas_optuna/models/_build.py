"""Builds the network of an architecture, directly and through timm's model registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import timm
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model

from tftas_optuna._given import whole
from tftas_optuna.architecture import (
    Architecture,
    ArchitectureLike,
    architecture_of,
    read_architecture,
)
from tftas_optuna.architecture.parts import FAMILIES, family_names
from tftas_optuna.errors import TftasError
from tftas_optuna.models.positions import fit_positions
from tftas_optuna.models.undrawn import Undrawn

if TYPE_CHECKING:
    from torch import nn

# timm's default configuration of all models; `timm_cfg` of a network is added when it is built.
_DEFAULT_CFG: dict[str, Any] = {
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": None,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "fixed_input_size": True,
    "classifier": "head",
}
default_cfgs: dict[str, Any] = {}
# Keys of a configuration that say where weights are.
_SOURCES = ("state_dict", "file", "url", "hf_hub_id")


def build_model(
    arch: ArchitectureLike,
    *,
    img_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    stock: bool | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build the stand-alone network of an architecture, with fresh weights.

    Where timm's own class builds it, the network is timm's: of a PiT, and of an AutoFormer without
    relative positions whose blocks are alike, whose heads divide the width, and whose
    ``layer_norm_eps`` is timm's 1e-6. Its directories then load where this package is not
    installed. All others are of a class of this package, a subclass of timm's. In both classes a
    network has the same weights by the same names, and computes the same.

    An architecture does not define the input and the classes; a candidate has those of its study.
    :meth:`SearchSpace.build` takes them from the space.

    Args:
        arch: The architecture, or a candidate of a front.
        img_size: Height and width of the input, in pixels; by default the candidate's.
        num_classes: Outputs of the classifier, 0 for none; by default the candidate's.
        in_chans: Channels of the input; by default the candidate's, or 3.
        stock: Whether the network is of timm's own class; None for where it can be.
        **kwargs: timm's other model arguments, such as ``drop_path_rate``.

    Returns:
        A module with timm's interface that maps (batch, in_chans, img_size, img_size) to (batch,
        num_classes), with the attribute ``architecture``. Of a class of this package it is the
        same as ``timm.create_model("tftas_...", arch=...)``.

    Raises:
        TftasError: It is no architecture, a size is missing or out of range, timm's argument does
            not apply, or timm's own class was asked for and does not build it.
    """
    given = {"img_size": img_size, "num_classes": num_classes, "in_chans": in_chans}
    sizes = {"in_chans": 3, **getattr(arch, "sizes", {})}
    sizes |= {name: size for name, size in given.items() if size is not None}
    found = architecture_of(arch)
    missing = [f"{name}=..." for name in given if name not in sizes]
    if missing:
        raise TftasError(
            f"an architecture alone has no sizes; give {' and '.join(missing)}, or a candidate of"
            " a front, or use space.build(arch)"
        )
    beyond = found.beyond_timm()
    if stock and beyond is not None:
        raise TftasError(
            f"timm itself builds no {found!r}: it has {beyond}; leave out stock, or give None"
        )
    if stock or (stock is None and beyond is None):
        return _create_stock(found, {**sizes, **kwargs})
    # A dictionary instead of the object, so that timm can save the configuration of the model.
    model: nn.Module = timm.create_model(
        _timm_name(found.family), arch=found.to_dict(), **sizes, **kwargs
    )
    return model


def timm_arguments(arch: Architecture) -> dict[str, Any]:
    """Return the arguments of timm's own class that build an architecture; empty if none do."""
    network: Any = FAMILIES[arch.family].network
    return {} if arch.beyond_timm() is not None else network.timm_model(arch)[1]


def build_undrawn(
    arch: Architecture, *, img_size: int, num_classes: int, in_chans: int, **kwargs: Any
) -> nn.Module:
    """Build a network with uninitialised weights, because drawing them is slow."""
    sizes: dict[str, Any] = {
        "img_size": img_size,
        "num_classes": num_classes,
        "in_chans": in_chans,
    }
    with Undrawn():
        return build_model(arch, **sizes, **kwargs)


def _timm_name(family: str) -> str:
    return f"tftas_{family}"


def register_with_timm(family: str) -> None:
    """Register a family as a model of timm, without loading the family."""

    def create(
        pretrained: bool = False,
        *,
        arch: Architecture | dict[str, Any] | str | Path | None = None,
        **kwargs: Any,
    ) -> nn.Module:
        """Build a network of this family through ``timm.create_model("tftas_...", arch=...)``.

        Args:
            pretrained: Whether to load the weights of a directory or hub repository with this
                model (``timm.create_model("local-dir:...", pretrained=True)``). The model name
                alone has no weights; pass ``checkpoint_path`` to load a file.
            arch: An architecture, its dictionary, or the path of an exported file, whose image
                size and number of classes are then the defaults. Without it the network's
                ``default_architecture`` is built.
            **kwargs: timm's model arguments, such as ``num_classes`` and ``img_size``.

        Raises:
            TftasError: ``arch`` describes no network of this family, or is missing and there is
                no default, or ``pretrained`` is set and there are no weights.
        """
        return _create(family, pretrained, arch, kwargs)

    if is_model(_timm_name(family)):
        return
    create.__name__ = create.__qualname__ = _timm_name(family)
    default_cfgs.update(generate_default_cfgs({f"{_timm_name(family)}.untrained": _DEFAULT_CFG}))
    register_model(create)


def _create(
    family: str,
    pretrained: bool,
    arch: Architecture | dict[str, Any] | str | Path | None,
    kwargs: dict[str, Any],
) -> nn.Module:
    name = _timm_name(family)
    user_overlay = kwargs.pop("pretrained_cfg_overlay", None) or {}
    has_source = any(user_overlay.get(key) for key in _SOURCES)
    _check_source(name, pretrained, kwargs.get("pretrained_cfg") or has_source)
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
    given_cfg = kwargs.get("pretrained_cfg")
    has_cfg = given_cfg and not isinstance(given_cfg, str)
    described = user_overlay.get("input_size") or (_input_size(given_cfg) if has_cfg else None)
    kwargs.setdefault("in_chans", (described or _DEFAULT_CFG["input_size"])[0])
    kwargs.setdefault("img_size", (described or _DEFAULT_CFG["input_size"])[1:])
    kwargs["img_size"] = height, width = _checked_size(arch, kwargs)
    # timm derives transforms from the input size, which must be that of the built model. While it
    # loads weights, the size must be that of the weights: timm adapts the first convolution from
    # its channels, and position embeddings are resampled from its height and width.
    built = (kwargs["in_chans"], height, width)
    overlay: dict[str, Any] = {"input_size": described if pretrained and described else built}
    if not has_cfg:
        overlay = {**getattr(network, "timm_cfg", {}), **overlay}
        if has_source:
            # Weights of which nothing else is said are those of the built network.
            overlay["num_classes"] = kwargs.get("num_classes", _DEFAULT_CFG["num_classes"])
    model = build_model_with_cfg(
        network,
        name,
        pretrained,
        pretrained_cfg_overlay={**overlay, **user_overlay},
        feature_cfg=_feature_cfg(network, arch),
        architecture=arch,
        **{"pretrained_filter_fn": fit_positions, **kwargs},
    )
    if hasattr(model, "pretrained_cfg"):
        model.pretrained_cfg["input_size"] = built
    return model


def _create_stock(arch: Architecture, kwargs: dict[str, Any]) -> nn.Module:
    """Build the network of timm's own class."""
    network: Any = FAMILIES[arch.family].network
    # As timm does, before anything looks at them.
    kwargs = {name: value for name, value in kwargs.items() if value is not None}
    source = kwargs.get("pretrained_cfg") or kwargs.get("pretrained_cfg_overlay")
    _check_source(_timm_name(arch.family), kwargs.get("pretrained"), source)
    kwargs["img_size"] = height, width = _checked_size(arch, kwargs)
    if kwargs.get("features_only"):
        kwargs = {**_feature_cfg(network, arch), **kwargs}
    name, arguments = network.timm_model(arch, **kwargs)
    built = (kwargs["in_chans"], height, width)
    # timm's configuration of this name is that of its own weights.
    cfg = {
        **_DEFAULT_CFG,
        **getattr(network, "timm_cfg", {}),
        "input_size": built,
        "architecture": name,
    }
    try:
        model: nn.Module = timm.create_model(name, **{"pretrained_cfg": cfg, **arguments})
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise TftasError(f"timm's own network has no such argument: {error}") from error
    cast("Any", model).architecture = arch
    return model


def _checked_size(arch: Architecture, kwargs: dict[str, Any]) -> tuple[int, int]:
    """Check the sizes among timm's arguments, and return height and width of the images.

    Raises:
        TftasError: One is out of range, or the image is too small.
    """
    for size, least in (("in_chans", 1), ("num_classes", 0)):
        whole(size, kwargs.get(size, least), least)
    height, width = to_2tuple(kwargs["img_size"])
    if not kwargs.get("dynamic_img_pad"):
        arch.costs(img_size=min(height, width), num_classes=0)
    return height, width


def _feature_cfg(network: Any, arch: Architecture) -> dict[str, Any]:
    features = getattr(network, "feature_cfg", {})
    return dict(features(arch) if callable(features) else features)


def _check_source(name: str, pretrained: Any, source: Any) -> None:
    if pretrained and not source:
        raise TftasError(f"{name} has no pretrained weights; pass checkpoint_path=...")


def _input_size(cfg: Any) -> tuple[int, int, int] | None:
    """Return channels, height and width that a configuration names, or None."""
    size = cfg.get("input_size") if isinstance(cfg, dict) else cfg.input_size
    return tuple(size) if size else None


for _family in family_names():
    register_with_timm(_family)
