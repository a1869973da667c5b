"""Builds models of timm's registry at any image size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import timm

if TYPE_CHECKING:
    from torch import nn


def create_timm(name: str, *, img_size: Any = None, **arguments: Any) -> nn.Module:
    """Build a model through timm, also one that has no argument ``img_size``.

    Such a model, a convolutional network above all, takes images of any size; the given one is
    recorded in its configuration, from which timm derives how images are prepared.

    Args:
        name: Name of the model, as ``timm.create_model`` takes it.
        img_size: Height and width of the input, in pixels, or both; None for the model's own.
        **arguments: Other arguments of ``timm.create_model``; what it raises is passed on.
    """
    if img_size is None:
        return timm.create_model(name, **arguments)
    try:
        return timm.create_model(name, img_size=img_size, **arguments)
    except TypeError as error:
        if "'img_size'" not in str(error):
            raise
        height, width = img_size if isinstance(img_size, list | tuple) else (img_size, img_size)
        shape = (arguments.get("in_chans", 3), height, width)
        return timm.create_model(name, pretrained_cfg_overlay={"input_size": shape}, **arguments)
