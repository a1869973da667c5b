"""Candidates that run together: the sizes of the tensors, and what of them each candidate uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from tftas_optuna.supernet.layers import Widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tftas_optuna.architecture import AutoFormerArchitecture


class Frame(NamedTuple):
    """The sizes of the tensors of a pass.

    Attributes:
        width: Width of the tokens.
        num_heads: Number of heads of each block.
        hidden_dim: Hidden width of each block.
        active: Number of candidates that have each block; they are the first ones.
        stacked: Whether the tensors of all blocks have one shape, and lie in one stack.
        mixed_widths: Whether candidates may be narrower.
        mixed_heads: For each block, whether candidates may have fewer heads.
        mixed_hidden: For each block, whether candidates may have a smaller hidden width.
        mixed_depths: Whether active candidates may lack blocks.
        shared: Where heads share the width, the candidates of each number of heads, block by
            block; empty where heads have a width of their own.
    """

    width: int
    num_heads: tuple[int, ...]
    hidden_dim: tuple[int, ...]
    active: tuple[int, ...]
    stacked: bool
    mixed_widths: bool = True
    mixed_heads: tuple[bool, ...] = ()
    mixed_hidden: tuple[bool, ...] = ()
    mixed_depths: bool = False
    shared: tuple[dict[int, list[int]], ...] = ()

    @classmethod
    def around(cls, archs: Sequence[AutoFormerArchitecture], *, stacked: bool) -> Frame:
        """Return the smallest frame for candidates, deepest first."""
        blocks = range(archs[0].depth)
        active = tuple(sum(arch.depth > i for arch in archs) for i in blocks)
        heads = [[arch.num_heads[i] for arch in archs[: active[i]]] for i in blocks]
        hidden = [[arch.hidden_dim[i] for arch in archs[: active[i]]] for i in blocks]
        most_heads, most_hidden = ([max(sizes) for sizes in each] for each in (heads, hidden))
        if stacked:
            most_heads = [max(most_heads)] * len(blocks)
            most_hidden = [max(most_hidden)] * len(blocks)
        width = max(arch.embed_dim for arch in archs)
        shared = () if archs[0].head_dim is not None else tuple(map(_by_value, heads))
        return cls(
            width,
            tuple(most_heads),
            tuple(most_hidden),
            active,
            stacked,
            any(arch.embed_dim < width for arch in archs),
            tuple(min(each) < most for each, most in zip(heads, most_heads, strict=True)),
            tuple(min(each) < most for each, most in zip(hidden, most_hidden, strict=True)),
            shared=shared,
        )

    @classmethod
    def whole(cls, largest: AutoFormerArchitecture, count: int) -> Frame:
        """Return the frame of any ``count`` candidates of a supernet."""
        blocks = largest.depth
        return cls(
            largest.embed_dim,
            blocks * (min(largest.num_heads),),
            blocks * (min(largest.hidden_dim),),
            blocks * (count,),
            stacked=True,
            mixed_heads=blocks * (True,),
            mixed_hidden=blocks * (True,),
            mixed_depths=True,
        )

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.active)

    @property
    def n_candidates(self) -> int:
        """Number of candidates."""
        return self.active[0]


def _by_value(sizes: Sequence[int]) -> dict[int, list[int]]:
    places: dict[int, list[int]] = {}
    for i, size in enumerate(sizes):
        places.setdefault(size, []).append(i)
    return places


def sizes_of(archs: Sequence[AutoFormerArchitecture], depth: int) -> list[list[int]]:
    """Return each candidate's width, its numbers of heads, and its hidden widths, as one row.

    There are ``depth`` of both; 0 stands for a block that a candidate lacks.
    """
    rows = []
    for arch in archs:
        missing = [0] * (depth - arch.depth)
        rows.append([arch.embed_dim, *arch.num_heads, *missing, *arch.hidden_dim, *missing])
    return rows


class Batch:
    """What each candidate uses of the tensors of a pass.

    Masks are 1 for what a candidate has, and 0 beyond. They are None where all have the same.

    Args:
        frame: The sizes of the tensors.
        sizes: The rows of :func:`sizes_of`, on the device of the pass.
        dtype: Floating-point type of the masks.

    Attributes:
        frame: The sizes of the tensors.
        widths: The widths of the candidates, or None.
        inside: For each block, ``widths.within`` of the candidates that have it, 0 for others.
        heads: For each block, the mask of the heads, shape (candidates, 1, 1, heads), or None.
        num_heads: For each block, the numbers of heads, shape (candidates,).
        hidden: For each block, the mask of the hidden units, shape (candidates, 1, hidden), or
            None.
    """

    def __init__(self, frame: Frame, sizes: Tensor, dtype: torch.dtype) -> None:
        self.frame = frame
        widths, heads, hidden = sizes.split((1, frame.depth, frame.depth), 1)
        self.widths = Widths.of(widths[:, 0], frame.width, dtype) if frame.mixed_widths else None
        self.num_heads = heads.unbind(1)
        self.heads = _masks(heads, frame.num_heads, frame.mixed_heads, dtype)
        self.hidden = [
            None if mask is None else mask[:, 0]
            for mask in _masks(hidden, frame.hidden_dim, frame.mixed_hidden, dtype)
        ]
        within = None if self.widths is None else self.widths.within
        self.inside = [within] * frame.depth
        if frame.mixed_depths and within is not None:
            live = (heads > 0).to(dtype).T[:, :, None, None]
            self.inside = list((within * live).unbind(0))


def _masks(
    sizes: Tensor, most: Sequence[int], mixed: Sequence[bool], dtype: torch.dtype
) -> list[Tensor | None]:
    """Mark what is within sizes, for each block, shape (candidates, 1, 1, most).

    Args:
        sizes: Sizes of the candidates, shape (candidates, blocks).
        most: The largest size of each block.
        mixed: For each block, whether a mask is needed.
        dtype: Type of the masks.
    """
    if not any(mixed):
        return [None] * len(most)
    within = torch.arange(max(most), device=sizes.device) < sizes.T[:, :, None, None, None]
    masks = within.to(dtype).unbind(0)
    return [
        mask[..., :size] if needed else None
        for mask, size, needed in zip(masks, most, mixed, strict=True)
    ]
