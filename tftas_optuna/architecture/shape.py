"""Depth and width of architectures of any family, which indicators are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture._base import Architecture


def shape_columns(archs: Sequence[Architecture]) -> dict[str, tuple[float, ...]]:
    """Return ``depth``, the number of blocks, and ``width``, the mean width of a block.

    A column is missing if the family has no such attributes (``depth``; ``embed_dim``, ``width``,
    or ``widths`` per stage).
    """
    columns = {
        "depth": tuple(map(depth_of, archs)),
        "width": tuple(map(width_of, archs)),
    }
    return {
        name: tuple(float(value) for value in values if value is not None)
        for name, values in columns.items()
        if None not in values
    }


def depth_of(arch: Any) -> float | None:
    """Return the number of blocks over all stages, or None if unknown."""
    depth = getattr(arch, "depth", None)
    return sum(depth) if isinstance(depth, tuple) else depth


def width_of(arch: Any) -> float | None:
    """Return the mean width of a block, or None if unknown."""
    widths, depth = getattr(arch, "widths", None), getattr(arch, "depth", None)
    if isinstance(widths, tuple) and isinstance(depth, tuple) and len(widths) == len(depth):
        blocks = sum(depth)
        return sum(w * n for w, n in zip(widths, depth, strict=True)) / blocks if blocks else None
    candidates = (getattr(arch, name, None) for name in ("embed_dim", "width"))
    return next((width for width in candidates if isinstance(width, int | float)), None)
