"""The blocks of architectures of any family, as drawings show them."""

from __future__ import annotations

from typing import Any, NamedTuple


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
