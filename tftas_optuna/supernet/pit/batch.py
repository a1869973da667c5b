"""Candidates that run together: the sizes of the tensors, and what of them each candidate uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tftas_optuna.architecture import PiTArchitecture


class StageFrame(NamedTuple):
    """The sizes of the tensors of one stage.

    Attributes:
        width: Width of the tokens.
        num_heads: Number of heads.
        hidden_dim: Hidden width.
        active: Number of candidates that have each block; they are the first ones.
        mixed_hidden: Whether candidates may have a smaller hidden width.
        mixed_depths: Whether active candidates may lack blocks.
        order: The candidates, deepest first; empty for the order of the pass.
    """

    width: int
    num_heads: int
    hidden_dim: int
    active: tuple[int, ...]
    mixed_hidden: bool
    mixed_depths: bool
    order: tuple[int, ...] = ()


class Frame(NamedTuple):
    """The sizes of the tensors of a pass of candidates with the same heads.

    Attributes:
        stages: Those of each stage.
        stacked: Whether the tensors of the blocks of a stage lie in one stack.
    """

    stages: tuple[StageFrame, ...]
    stacked: bool

    @classmethod
    def around(cls, archs: Sequence[PiTArchitecture], *, stacked: bool) -> Frame:
        """Return the smallest frame for candidates."""
        stages = []
        for s, (width, heads) in enumerate(zip(archs[0].widths, archs[0].num_heads, strict=True)):
            depths = [arch.depth[s] for arch in archs]
            active = tuple(sum(depth > i for depth in depths) for i in range(max(depths)))
            hidden = {arch.hidden_dims[s] for arch in archs}
            order = tuple(sorted(range(len(archs)), key=lambda i: -depths[i]))
            mixed = len(hidden) > 1
            stages.append(StageFrame(width, heads, max(hidden), active, mixed, False, order))
        return cls(tuple(stages), stacked)

    @classmethod
    def whole(cls, largest: PiTArchitecture, heads_of: PiTArchitecture, count: int) -> Frame:
        """Return the frame of any ``count`` candidates of a supernet with the heads of one."""
        stages = [
            StageFrame(width, heads, hidden, depth * (count,), True, True)
            for width, heads, hidden, depth in zip(
                heads_of.widths,
                heads_of.num_heads,
                largest.hidden_dims,
                largest.depth,
                strict=True,
            )
        ]
        return cls(tuple(stages), stacked=True)

    @property
    def count(self) -> int:
        """Number of candidates."""
        return self.stages[0].active[0]


def sizes_of(archs: Sequence[PiTArchitecture]) -> list[list[int]]:
    """Return each candidate's depths, and its hidden widths, stage by stage, as one row."""
    return [[*arch.depth, *arch.hidden_dims] for arch in archs]


class StageBatch(NamedTuple):
    """What each candidate uses of the tensors of one stage.

    Attributes:
        frame: The sizes of the tensors.
        members: Positions of the candidates in the pass, shape (candidates,); None if they are in
            its order.
        moves: Their positions in the order of the stage before; None if it is the same.
        hidden: 1 up to a candidate's hidden width and 0 beyond, shape (candidates, 1, hidden);
            None if all have the same.
        hidden_dims: The hidden widths, shape (candidates, 1, 1).
        live: For each block, 1 for the candidates that have it and 0 for the others, shape
            (candidates, 1, 1); None if all active ones have it.
    """

    frame: StageFrame
    members: Tensor | None
    moves: Tensor | None
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
    depths, hidden_dims = sizes.T.chunk(2)
    device = sizes.device
    before = tuple(range(frame.count))
    batches = []
    for stage, depth, hidden_dim in zip(frame.stages, depths, hidden_dims, strict=True):
        members = moves = within = live = None
        if stage.order:
            members = torch.tensor(stage.order, device=device)
            hidden_dim = hidden_dim[members]
            if stage.order != before:
                places = {member: place for place, member in enumerate(before)}
                moves = torch.tensor([places[member] for member in stage.order], device=device)
            before = stage.order
        column = hidden_dim[:, None, None]
        if stage.mixed_hidden:
            within = (torch.arange(stage.hidden_dim, device=device) < column).to(dtype)
        if stage.mixed_depths:
            blocks = torch.arange(len(stage.active), device=device)
            live = (blocks[:, None] < depth).to(dtype)[:, :, None, None].unbind(0)
        batches.append(StageBatch(stage, members, moves, within, column.to(dtype), live))
    return batches
