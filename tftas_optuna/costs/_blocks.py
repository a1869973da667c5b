"""Architectures as sequences of blocks, so that a few small networks tell the cost of all."""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture, AutoFormerArchitecture
    from tftas_optuna.spaces import SearchSpace


class Kind(NamedTuple):
    """What tells blocks of one space apart.

    Attributes:
        width: Width of the tokens; networks of one width share everything around the blocks.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden width of the MLP over the width.
    """

    width: int
    num_heads: int
    mlp_ratio: float


class Blocks(Protocol):
    """How a family's architectures fall into blocks whose costs add up.

    A family without one has its costs taken network by network.
    """

    def kinds(self, arch: Architecture) -> list[Kind]:
        """Return the kinds of an architecture's blocks, first one first."""

    def every_kind(self, space: SearchSpace) -> list[Kind]:
        """Return every kind that occurs in a space."""

    def uniform(self, arch: Architecture, kind: Kind, depth: int) -> Architecture:
        """Return an architecture like another, with so many blocks of one kind."""


class AutoFormerBlocks:
    """Blocks of AutoFormer: one width, heads and MLP ratio block by block; see :class:`Blocks`."""

    def kinds(self, arch: AutoFormerArchitecture) -> list[Kind]:
        return [
            Kind(arch.embed_dim, heads, ratio)
            for heads, ratio in zip(arch.num_heads, arch.mlp_ratio, strict=True)
        ]

    def every_kind(self, space: SearchSpace) -> list[Kind]:
        choices = space.choices()
        return [
            Kind(*kind)
            for kind in product(choices["embed_dim"], choices["num_heads"], choices["mlp_ratio"])
        ]

    def uniform(
        self, arch: AutoFormerArchitecture, kind: Kind, depth: int
    ) -> AutoFormerArchitecture:
        return dataclasses.replace(
            arch,
            embed_dim=kind.width,
            num_heads=(kind.num_heads,) * depth,
            mlp_ratio=(kind.mlp_ratio,) * depth,
        )
