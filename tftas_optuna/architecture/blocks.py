"""The blocks of architectures, for drawings and for costs that add up over blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.architecture._base import Architecture


class Block(NamedTuple):
    """The sizes of one block that drawings show.

    Attributes:
        heads: Number of attention heads.
        attention: Width of all heads together.
        hidden: Hidden width of its MLP.
    """

    heads: int
    attention: int
    hidden: int


class BlockKind(NamedTuple):
    """A kind of block: all blocks of one kind add the same amount to a cost.

    Attributes:
        width: Width of the tokens; networks of one width are the same around the blocks.
        num_heads: Number of attention heads.
        mlp_ratio: Hidden width of the MLP over the width.
    """

    width: int
    num_heads: int
    mlp_ratio: float


def sum_over_blocks(arch: Architecture, cost: Callable[[Architecture], int]) -> int:
    """Return a cost as the sum over blocks, computed from networks of one or two blocks.

    A space has few such networks. If the architecture lists no kinds of blocks, the cost is
    computed for the whole network.
    """
    kinds = arch.block_kinds()
    if not kinds:
        return cost(arch)
    total = cost(arch.with_blocks(kinds[0], 1))
    for kind in kinds[1:]:
        total += cost(arch.with_blocks(kind, 2)) - cost(arch.with_blocks(kind, 1))
    return total


def blocks_of(arch: Any) -> list[Block]:
    """Return the blocks of an architecture over all stages, or an empty list if unknown.

    They are read from the attributes ``num_heads``, ``inner_dim`` and ``hidden_dim`` per block,
    or from ``depth``, ``num_heads``, ``widths`` and ``hidden_dims`` per stage.
    """
    if _are_lists(arch, "num_heads", "inner_dim", "hidden_dim"):
        return [*map(Block, arch.num_heads, arch.inner_dim, arch.hidden_dim)]
    if _are_lists(arch, "depth", "num_heads", "widths", "hidden_dims"):
        stages = zip(arch.depth, arch.num_heads, arch.widths, arch.hidden_dims, strict=True)
        return [Block(*block) for depth, *block in stages for _ in range(depth)]
    return []


def _are_lists(arch: Any, *names: str) -> bool:
    """Return whether all attributes are lists; where all blocks are equal they are numbers."""
    return all(isinstance(getattr(arch, name, None), list | tuple) for name in names)
