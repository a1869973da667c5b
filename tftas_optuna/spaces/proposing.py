"""Proposes a space for a set of images: its sizes by the images, its choices by a budget."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any, NamedTuple

import yaml

from tftas_optuna.errors import TftasError
from tftas_optuna.spaces.autoformer import AutoFormerSpace

# Larger images are scaled down to what most Vision Transformers are trained on.
_LARGEST_SIDE = 224
_PATCHES = (16, 8, 4, 2)
# A side of an image has at least so many patches where it can.
_FEWEST_PATCHES = 7
# As in AutoFormer's spaces: offsets beyond it share a row.
_FARTHEST = 14
# The budget that is taken if none is given, in parameters for each image to train on.
_PARAMS_PER_IMAGE = 100
_USUAL_BUDGETS = (100_000, 25_000_000)
_DEPTHS = range(3, 33)
_WIDTHS = range(16, 1537, 8)
# AutoFormer's spaces and the examples are about this times the square of their depth wide.
_WIDTH_BY_DEPTH = 2.4


class Proposal(NamedTuple):
    """A proposed space.

    Attributes:
        fields: The space as plain data, which :func:`tftas_optuna.spaces.space_from_dict` reads.
        reasons: Why fields are what they are, by name.
    """

    fields: dict[str, Any]
    reasons: dict[str, str]

    def to_yaml(self) -> str:
        """Return the space as the lines of a YAML file, each with its reason as a comment."""
        lines = []
        for name, value in self.fields.items():
            # A name such as 2024 needs quotes.
            plain = isinstance(value, list)
            line = f"{name}: {value}" if plain else yaml.safe_dump({name: value}).rstrip()
            reason = self.reasons.get(name)
            lines.append(line if reason is None else f"{line}  # {reason}")
        return "\n".join(lines) + "\n"


def propose_space(
    name: str,
    *,
    side: int,
    in_chans: int,
    num_classes: int,
    n_images: int,
    params_max: float | None = None,
) -> Proposal:
    """Propose an AutoFormer space.

    Of all depths the one is taken whose largest network comes close to the budget without being
    too deep or too wide. The choices below it are few, so that the smallest network has about a
    sixth of the budget or more.

    Args:
        name: Name of the space.
        side: Height and width of the images, in pixels.
        in_chans: Channels of the images.
        num_classes: Number of classes.
        n_images: Number of images to train on.
        params_max: The most parameters of a network; by default 100 for each image, at least
            100,000 and at most 25,000,000.

    Raises:
        TftasError: No network has so few parameters, or so many.
    """
    img_size, patch_size = _input_sizes(side)
    grid = img_size // patch_size
    common = {
        "name": name,
        "family": "autoformer",
        "img_size": img_size,
        "in_chans": in_chans,
        "num_classes": num_classes,
        "patch_size": patch_size,
    }
    positions = (
        {"max_relative_position": min(grid - 1, _FARTHEST)}
        if grid > 1
        else {"relative_position": False}
    )

    def made(depth: int, width: int) -> dict[str, Any]:
        head_dim = _head_dim(width)
        return {**common, "head_dim": head_dim, **positions, **_choices(depth, width, head_dim)}

    def most(depth: int, width: int) -> int:
        space = AutoFormerSpace.from_dict(made(depth, width))
        return space.costs(space.largest()).n_params

    least = most(_DEPTHS[0], _WIDTHS[0])
    low, high = _USUAL_BUDGETS
    budget = params_max or max(min(max(_PARAMS_PER_IMAGE * n_images, low), high), 2 * least)
    if budget < least:
        raise TftasError(
            f"no network for {img_size}x{img_size} images and {num_classes} classes has at most"
            f" {budget:,.0f} parameters; give {least:,} or more"
        )
    if budget > most(_DEPTHS[-1], _WIDTHS[-1]):
        raise TftasError(
            f"a budget of {budget:,.0f} parameters is beyond what is proposed; give at most"
            f" {most(_DEPTHS[-1], _WIDTHS[-1]):,}"
        )
    depth, width = _largest(budget, most)
    fields = made(depth, width)
    space = AutoFormerSpace.from_dict(fields)
    smallest, largest = (space.costs(a).n_params for a in (space.smallest(), space.largest()))
    given = "as given" if params_max else f"{_PARAMS_PER_IMAGE} for each image, within limits"
    return Proposal(
        fields,
        {
            "patch_size": f"{grid}x{grid} patches",
            "head_dim": "the same for all: networks differ in their number of heads",
            "max_relative_position": f"the grid is {grid}x{grid}",
            "embed_dim": f"with the depths, networks of {smallest:,} to {largest:,} parameters",
            "depth": f"for a budget of {budget:,.0f} ({given})",
            "num_heads": "block by block, as the MLP ratio",
        },
    )


def _input_sizes(side: int) -> tuple[int, int]:
    """Return the size of the input, a multiple of the patch, and of a patch."""
    side = min(side, _LARGEST_SIDE)
    smallest = min(_PATCHES[-1], max(side // 2, 1))
    patch = next((p for p in _PATCHES if side // p >= _FEWEST_PATCHES), smallest)
    return side // patch * patch, patch


def _head_dim(width: int) -> int:
    return next((dim for dim, limit in ((16, 96), (32, 256)) if width < limit), 64)


def _choices(depth: int, width: int, head_dim: int) -> dict[str, list[int]]:
    """Return the choices of a space whose largest network has a depth and a width."""
    step = max(8, round(width / 48) * 8)
    heads = max(2, round(width / head_dim))
    return {
        "embed_dim": [width - 2 * step, width - step, width]
        if width >= 48
        else [width - step, width],
        "depth": [depth - 2, depth - 1, depth] if depth >= 6 else [depth - 1, depth],
        "num_heads": [heads - 2, heads - 1, heads] if heads > 4 else [heads - 1, heads],
        "mlp_ratio": [2, 3, 4],
    }


def _largest(budget: float, most: Any) -> tuple[int, int]:
    """Return the depth and the width of the largest network within a budget."""

    def strangeness(shape: tuple[int, int]) -> float:
        depth, width = shape
        usual = abs(math.log(width / (_WIDTH_BY_DEPTH * depth**2)))
        return usual + 2 * math.log(budget / most(depth, width))

    shapes = []
    for depth in _DEPTHS:
        count = bisect_right(_WIDTHS, budget, key=lambda width: most(depth, width))
        if count:
            shapes.append((depth, _WIDTHS[count - 1]))
    return min(shapes, key=strangeness)
