"""The blocks of architectures: what drawings show of them, and costs that add up over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tftas_optuna.architecture._base import Architecture


class Block(NamedTuple):
    """What is drawn of one block.

    Attributes:
        heads: Heads of its attention.
        attention: Width of all heads together.
        hidden: Hidden width of its MLP.
    """

    heads: int
    attention: int
    hidden: int


class BlockKind(NamedTuple):
    """What blocks of one kind have in common, so that each adds the same to a cost.

    Attributes:
        width: Width of the tokens; networks of one width share everything around the blocks.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden width of the MLP over the width.
    """

    width: int
    num_heads: int
    mlp_ratio: float


def sum_over_blocks(arch: Architecture, cost: Callable[[Architecture], int]) -> int:
    """Take a cost from networks of one or two blocks where it adds up over blocks.

    Those are few in a whole space. Where architectures do not say their kinds of blocks, the cost
    is that of the whole network.
    """
    kinds = arch.block_kinds()
    if not kinds:
        return cost(arch)
    total = cost(arch.with_blocks(kinds[0], 1))
    for kind in kinds[1:]:
        total += cost(arch.with_blocks(kind, 2)) - cost(arch.with_blocks(kind, 1))
    return total


def blocks_of(arch: Any) -> list[Block]:
    """List the blocks of an architecture, of all stages; empty where its family does not tell.

    Told is, by block, ``num_heads``, ``inner_dim`` and ``hidden_dim``; or by stage ``depth``,
    ``num_heads``, ``widths`` and ``hidden_dims``.
    """
    if _lists(arch, "num_heads", "inner_dim", "hidden_dim"):
        return [*map(Block, arch.num_heads, arch.inner_dim, arch.hidden_dim)]
    if _lists(arch, "depth", "num_heads", "widths", "hidden_dims"):
        stages = zip(arch.depth, arch.num_heads, arch.widths, arch.hidden_dims, strict=True)
        return [Block(*block) for depth, *block in stages for _ in range(depth)]
    return []


def _lists(arch: Any, *names: str) -> bool:
    """Tell whether these are lists; in a family where all blocks are alike they are numbers."""
    return all(isinstance(getattr(arch, name, None), list | tuple) for name in names)
