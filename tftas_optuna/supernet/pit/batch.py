"""Candidates that run together: the sizes of the tensors, and what of them each candidate uses."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import torch

from tftas_optuna.supernet.layers import Widths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tftas_optuna.architecture import PiTArchitecture


class StageFrame(NamedTuple):
    """The sizes of the tensors of one stage.

    Attributes:
        num_heads: Number of heads.
        hidden_dim: Hidden width.
        active: Number of candidates that have each block; they are the first ones.
        ratio: The largest ratio of the number of heads to that of the stage before.
        mixed_heads: Whether candidates may have fewer heads, and be narrower by that, here or in
            the stage before.
        mixed_hidden: Whether candidates may have a smaller hidden width.
        mixed_depths: Whether active candidates may lack blocks.
        order: The candidates, deepest first; empty for the order of the pass.
    """

    num_heads: int
    hidden_dim: int
    active: tuple[int, ...]
    ratio: int
    mixed_heads: bool = True
    mixed_hidden: bool = True
    mixed_depths: bool = True
    order: tuple[int, ...] = ()


class Frame(NamedTuple):
    """The sizes of the tensors of a pass of candidates with heads of one width.

    Attributes:
        head_dim: Width of the heads.
        stages: The sizes of each stage.
        stacked: Whether the tensors of the blocks of a stage lie in one stack.
    """

    head_dim: int
    stages: tuple[StageFrame, ...]
    stacked: bool

    @classmethod
    def around(cls, archs: Sequence[PiTArchitecture], *, stacked: bool) -> Frame:
        """Return the smallest frame for candidates."""
        mixed = len({arch.num_heads for arch in archs}) > 1
        stages = []
        for s in range(len(archs[0].depth)):
            depths = [arch.depth[s] for arch in archs]
            hidden = {arch.hidden_dims[s] for arch in archs}
            stages.append(
                StageFrame(
                    max(arch.num_heads[s] for arch in archs),
                    max(hidden),
                    tuple(sum(depth > i for depth in depths) for i in range(max(depths))),
                    max(arch.num_heads[s] // arch.num_heads[max(s - 1, 0)] for arch in archs),
                    mixed,
                    len(hidden) > 1,
                    mixed_depths=False,
                    order=_deepest_first(archs, s),
                )
            )
        return cls(archs[0].base_dim, tuple(stages), stacked)

    @classmethod
    def whole(cls, largest: PiTArchitecture, head_dim: int, count: int) -> Frame:
        """Return the frame of any ``count`` candidates with heads of one width.

        They have at most as many heads as the supernet's largest candidate, and its MLP ratio.
        """
        own = dataclasses.replace(largest, base_dim=head_dim)
        stages = [
            StageFrame(heads, hidden, depth * (count,), heads)
            for heads, hidden, depth in zip(own.num_heads, own.hidden_dims, own.depth, strict=True)
        ]
        return cls(head_dim, tuple(stages), stacked=True)

    def holds(self, arch: PiTArchitecture) -> bool:
        """Return whether a candidate fits."""
        sizes = zip(self.stages, arch.num_heads, arch.hidden_dims, arch.depth, strict=True)
        return all(
            heads <= stage.num_heads and hidden <= stage.hidden_dim and depth <= len(stage.active)
            for stage, heads, hidden, depth in sizes
        )

    @property
    def n_candidates(self) -> int:
        """Number of candidates."""
        return self.stages[0].active[0]


def _deepest_first(archs: Sequence[PiTArchitecture], stage: int) -> tuple[int, ...]:
    """Order candidates by depth; of equal depth, those with equal shapes are adjacent."""

    def key(i: int) -> tuple[int, int, int]:
        arch = archs[i]
        return -arch.depth[stage], arch.num_heads[stage], arch.hidden_dims[stage]

    return tuple(sorted(range(len(archs)), key=key))


def sizes_of(archs: Sequence[PiTArchitecture]) -> list[list[int]]:
    """Return each candidate's heads, depths and hidden widths, stage by stage, as one row."""
    return [[*arch.num_heads, *arch.depth, *arch.hidden_dims] for arch in archs]


class StageBatch(NamedTuple):
    """What each candidate uses of the tensors of one stage.

    Masks are 1 for what a candidate has, and 0 beyond. They are None where all have the same.

    Attributes:
        frame: The sizes of the tensors.
        width: Width of the tokens.
        members: Positions of the candidates in the pass, shape (candidates,); None if they are in
            its order.
        moves: Their positions in the order of the stage before; None if it is the same.
        ratios: Ratios of the number of heads to that of the stage before, shape (candidates, 1,
            1), in the order of that stage; None if all have the same.
        widths: The widths of the candidates, or None.
        heads: The mask of the heads, shape (candidates, 1, 1, heads), or None.
        hidden: The mask of the hidden units, shape (candidates, 1, hidden), or None.
        hidden_dims: The hidden widths, shape (candidates, 1, 1).
        live: For each block, the mask of the candidates that have it, shape (candidates, 1, 1);
            None if all active ones have it.
    """

    frame: StageFrame
    width: int
    members: Tensor | None
    moves: Tensor | None
    ratios: Tensor | None
    widths: Widths | None
    heads: Tensor | None
    hidden: Tensor | None
    hidden_dims: Tensor
    live: Sequence[Tensor] | None


def batches_of(frame: Frame, sizes: Tensor, dtype: torch.dtype) -> list[StageBatch]:
    """Return what candidates use of each stage.

    Args:
        frame: The sizes of the tensors.
        sizes: The rows of :func:`sizes_of`, on the device of the pass.
        dtype: Floating-point type of the masks.
    """
    device = sizes.device
    columns = zip(*(part.unbind(0) for part in sizes.T.chunk(3)), strict=True)
    # Empty where all stages have the order of the pass.
    before = tuple(range(frame.n_candidates)) if frame.stages[0].order else ()
    heads_before = sizes[:, 0]
    batches = []
    for stage, (heads, depth, hidden_dim) in zip(frame.stages, columns, strict=True):
        members = moves = ratios = widths = has_heads = within = live = None
        if stage.mixed_heads:
            ratios = heads // heads_before
            if before:
                ratios = ratios[torch.tensor(before, device=device)]
            ratios = ratios[:, None, None]
        heads_before = heads
        if stage.order:
            members = torch.tensor(stage.order, device=device)
            heads, hidden_dim = heads[members], hidden_dim[members]
            if stage.order != before:
                places = {member: place for place, member in enumerate(before)}
                moves = torch.tensor([places[member] for member in stage.order], device=device)
        before = stage.order
        width = stage.num_heads * frame.head_dim
        if stage.mixed_heads:
            widths = Widths.of(heads * frame.head_dim, width, dtype)
            numbers = torch.arange(stage.num_heads, device=device)
            has_heads = (numbers < heads[:, None, None, None]).to(dtype)
        column = hidden_dim[:, None, None]
        if stage.mixed_hidden:
            within = (torch.arange(stage.hidden_dim, device=device) < column).to(dtype)
        if stage.mixed_depths:
            blocks = torch.arange(len(stage.active), device=device)
            live = (blocks[:, None] < depth).to(dtype)[:, :, None, None].unbind(0)
        batches.append(
            StageBatch(
                stage,
                width,
                members,
                moves,
                ratios,
                widths,
                has_heads,
                within,
                column.to(dtype),
                live,
            )
        )
    return batches
