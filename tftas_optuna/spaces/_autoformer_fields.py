"""The fields of an AutoFormer space in plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.architecture.checks import check_int, shown
from tftas_optuna.errors import TftasError, did_you_mean
from tftas_optuna.spaces._checks import as_choices

CHOICES = ("embed_dim", "depth", "num_heads", "mlp_ratio")
TRAITS = (
    "head_dim",
    "patch_size",
    "relative_position",
    "max_relative_position",
    "abs_pos",
    "global_pool",
    "layer_norm_eps",
)
# Dimensions that may differ per block, with the letter that labels use for each.
OF_BLOCK = {"num_heads": "h", "mlp_ratio": "r"}


def sorted_choices(values: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Check and sort the choices of each dimension; heads that follow the width have none."""
    return {
        dimension: as_choices(
            dimension, values[dimension], whole=dimension != "mlp_ratio", key=(dimension,)
        )
        for dimension in CHOICES
        if dimension != "num_heads" or values.get(dimension) is not None
    }


def required_choices(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the dimensions that a space needs choices of: with a head width not the heads."""
    supernet = data.get("supernet")
    traits = {**data, **supernet} if isinstance(supernet, dict) else data
    tied = "num_heads" not in data and traits.get("head_dim") is not None
    return tuple(name for name in CHOICES if not (tied and name == "num_heads"))


def read_supernet(data: dict[str, Any]) -> AutoFormerArchitecture:
    """Read the supernet of a space; by default it has the largest choices.

    Raises:
        TftasError: A size or a trait is missing, given twice or out of range.
    """
    traits = {key: data[key] for key in TRAITS if key in data}
    tied = "num_heads" not in required_choices(data)
    if "supernet" not in data:
        sizes = {name: values[-1] for name, values in sorted_choices(data).items()}
        parent: tuple[str, ...] = ()
    else:
        sizes, parent = _supernet_sizes(data["supernet"], traits, tied), ("supernet",)
    if tied:
        head_dim = {**traits, **sizes}["head_dim"]
        check_int("head_dim", head_dim, 1, 1024)
        check_int("embed_dim", sizes["embed_dim"], head_dim, 16_384)
        sizes.setdefault("num_heads", sizes["embed_dim"] // head_dim)
    if traits.get("relative_position") is False and "max_relative_position" in traits:
        raise TftasError(
            "max_relative_position has no meaning when relative_position is false; leave it out",
            key=("max_relative_position",),
        )
    check_int("supernet.depth" if parent else "depth", sizes["depth"], 1, 256)
    fields = {**traits, **sizes}
    depth = fields.pop("depth")
    for dimension in OF_BLOCK:
        fields[dimension] = (fields[dimension],) * depth
    try:
        supernet = AutoFormerArchitecture(**fields)
        if "img_size" in data and isinstance(data["img_size"], int):
            grid = supernet.grid(data["img_size"])
            if grid * supernet.patch_size != data["img_size"]:
                raise TftasError(
                    f"img_size {data['img_size']} is not a multiple of patch_size"
                    f" {supernet.patch_size}",
                    key=("img_size",),
                )
    except TftasError as error:
        prefix = parent if error.key[:1] and error.key[0] not in data else ()
        label = "supernet." if prefix else ""
        raise TftasError(f"{label}{error}", key=(*prefix, *error.key)) from error
    return supernet


def _supernet_sizes(supernet: Any, traits: dict[str, Any], tied: bool) -> dict[str, Any]:
    if not isinstance(supernet, dict):
        raise TftasError(
            f"supernet is {shown(supernet)}, expected its {', '.join(CHOICES)}",
            key=("supernet",),
        )
    for key in supernet:
        if key in traits:
            raise TftasError(
                f"{key} is given twice, inside supernet and beside it", key=("supernet", key)
            )
        if key not in (*CHOICES, *TRAITS):
            raise TftasError(
                f"unknown key {shown(key)} in supernet{did_you_mean(key, (*CHOICES, *TRAITS))}",
                key=("supernet", key),
            )
    needed = [key for key in CHOICES if not (tied and key == "num_heads")]
    missing = [f"supernet.{key}" for key in needed if key not in supernet]
    if missing:
        raise TftasError(f"an autoformer space needs {', '.join(missing)}", key=("supernet",))
    return dict(supernet)


def slot(i: int) -> str:
    """Return the name of the parameter of a block slot, counted from 0."""
    return f"block_{i + 1:02d}"
