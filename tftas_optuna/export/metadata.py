"""What an exported network says about itself: its images, its classes, and where it is from.

ONNX files hold it as properties of the model (``metadata_props``), TorchScript archives as extra
files, in both as texts by these names: ``weights`` (``trained`` or ``untrained``), ``input_size``
(channels, height, width), ``mean``, ``std``, ``interpolation``, ``crop_pct`` and ``crop_mode`` as
timm's transforms take them, ``num_classes``, ``class_names`` in the order of the outputs,
``architecture``, ``study`` and ``trial`` where they are known, and ``tftas_optuna``, the version
that wrote them. Texts other than ``weights``, ``study`` and versions are JSON.
"""

from __future__ import annotations

import json
import math
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

from timm.data import resolve_input_data_config
from timm.models import get_model_input_config

from tftas_optuna._given import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

UNTRAINED = "untrained"
VERSION = "tftas_optuna"
# In the configuration of a network of timm's own class, whose "architecture" is timm's name.
ARCHITECTURE = "arch"
NAMES = (
    *("weights", "input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode"),
    *("num_classes", "class_names", "architecture", "study", "trial", VERSION),
)
_TEXTS = ("weights", "study", "interpolation", "crop_mode", VERSION)
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", "random")
_CROPS = ("center", "squash", "border")
_LARGEST = 4096


def weights_label(trained: bool) -> str:
    """Return the entry ``weights``."""
    return "trained" if trained else UNTRAINED


def class_names(model: nn.Module) -> tuple[str, ...] | None:
    """Return the names of a network's classes in the order of its outputs; None if unknown.

    timm keeps the names of the pretrained classes when the classifier is replaced.
    """
    names = cast("Any", model).pretrained_cfg.get("label_names")
    if isinstance(names, dict):
        names = [names.get(i, names.get(str(i))) for i in range(len(names))]
    if not isinstance(names, list | tuple):
        return None
    if not names or None in names or len(names) != cast("Any", model).num_classes:
        return None
    return tuple(map(str, names))


def preparation(model: nn.Module) -> dict[str, Any]:
    """Return how images are prepared for a network, with the names of timm's transforms.

    Args:
        model: The network, built by timm.

    Returns:
        ``input_size``, ``mean``, ``std``, ``interpolation``, ``crop_pct`` and ``crop_mode``.
    """
    built = get_model_input_config(model)["input_size"]
    config: dict[str, Any] = resolve_input_data_config(model, {"input_size": built})
    return config


def describe(
    model: nn.Module, *, trained: bool, origin: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Return what a network says about itself, as texts by name.

    Args:
        model: The network, built by timm.
        trained: Whether it is trained.
        origin: Its study and trial, as :func:`tftas_optuna.export.documents.as_yaml` writes them.
    """
    timm_model, origin = cast("Any", model), origin or {}
    arch = getattr(model, "architecture", None)
    about = {
        "weights": weights_label(trained),
        **preparation(model),
        "num_classes": timm_model.num_classes,
        "class_names": class_names(model),
        "architecture": (
            timm_model.pretrained_cfg.get("architecture") if arch is None else arch.to_dict()
        ),
        "study": origin.get("name"),
        "trial": origin.get("trial"),
        VERSION: metadata.version("tftas-optuna"),
    }
    return {
        name: str(value) if name in _TEXTS else json.dumps(value)
        for name, value in about.items()
        if value is not None
    }


def parse(texts: Mapping[str, str]) -> dict[str, Any]:
    """Read :func:`describe` back; entries of other programs are left out.

    Raises:
        ValueError: An entry is damaged.
    """
    texts = {name: texts[name] for name in NAMES if texts.get(name)}
    try:
        about = {
            name: text if name in _TEXTS else json.loads(text, parse_constant=_refuse)
            for name, text in texts.items()
        }
    except RecursionError as error:
        raise ValueError("too many brackets") from error
    check(about)
    return about


def check(about: Mapping[str, Any]) -> None:
    """Check what a file says of its images and classes, as far as it says so.

    Args:
        about: Values by the names above.

    Raises:
        ValueError: No images can be prepared in this way, or the classes are none; names the
            entry.
    """
    channels, *_ = about["input_size"] if _is_size(about.get("input_size")) else (None,)
    allowed: dict[str, Callable[[Any], bool]] = {
        "input_size": _is_size,
        "mean": lambda value: _are_numbers(value, channels),
        "std": lambda value: _are_numbers(value, channels) and all(item > 1e-6 for item in value),
        "interpolation": lambda value: value in _INTERPOLATIONS,
        "crop_pct": lambda value: _is_number(value) and 0.01 <= value <= 2,
        "crop_mode": lambda value: value in _CROPS,
        "num_classes": lambda value: type(value) is int,
        "class_names": lambda value: (
            isinstance(value, list)
            and all(isinstance(item, str) for item in value)
            and len(value) == about.get("num_classes")
        ),
    }
    for name, fits in allowed.items():
        if name in about and not fits(about[name]):
            raise ValueError(f"{name} is {shown(about[name])}")


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(type(item) is int and 1 <= item <= _LARGEST for item in value)
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _are_numbers(value: Any, channels: int | None) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) in (1, channels)
        and all(map(_is_number, value))
    )


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")
