"""Depth and width of architectures, which stand beside every indicator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture import Architecture


def shape_columns(archs: Sequence[Architecture]) -> dict[str, tuple[float, ...]]:
    """Measure ``depth``, the blocks of all stages, and ``width``, the mean width of a block.

    Of a family whose architectures have no such attributes (``depth``; ``embed_dim``, ``width``,
    or ``widths`` by stage) the column is missing.
    """
    columns = {"depth": map(_depth, archs), "width": map(_width, archs)}
    found = {name: tuple(values) for name, values in columns.items()}
    return {
        name: tuple(float(value) for value in values if value is not None)
        for name, values in found.items()
        if None not in values
    }


def _depth(arch: Any) -> float | None:
    depth = getattr(arch, "depth", None)
    return sum(depth) if isinstance(depth, tuple) else depth


def _width(arch: Any) -> float | None:
    widths, depth = getattr(arch, "widths", None), getattr(arch, "depth", None)
    if isinstance(widths, tuple) and isinstance(depth, tuple) and len(widths) == len(depth):
        blocks = sum(depth)
        return sum(w * n for w, n in zip(widths, depth, strict=True)) / blocks if blocks else None
    plain = (getattr(arch, name, None) for name in ("embed_dim", "width"))
    return next((width for width in plain if isinstance(width, int | float)), None)
