"""Which of a supernet's weights a candidate takes, where there is a choice."""

from __future__ import annotations

import dataclasses

from tftas_optuna.errors import TftasError, did_you_mean

BLOCKS = ("first", "even")
_BIASES = ("vector", "rows")


@dataclasses.dataclass(frozen=True)
class Slicing:
    """Which of the weights a candidate takes, where there is a choice.

    Attributes:
        blocks: Which blocks a candidate with fewer of them takes: the ``"first"``, or ``"even"``,
            evenly spaced ones.
        qkv_bias: Which entries of the bias of an AutoFormer's ``qkv``: ``"vector"``, the first,
            as AutoFormer does, or ``"rows"``, those of the rows of its weights.
    """

    blocks: str = "first"
    qkv_bias: str = "vector"

    def __post_init__(self) -> None:
        for name, allowed in (("blocks", BLOCKS), ("qkv_bias", _BIASES)):
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise TftasError(f"{name} is {value!r}{did_you_mean(value, allowed)}")

    def taken(self, count: int, total: int) -> list[int]:
        """Return the positions of the blocks that are taken of all blocks of a stage."""
        if self.blocks == "first" or count == 1:
            return list(range(count))
        # Rounded to the nearest in whole numbers, so that every machine takes the same ones.
        return [(i * (total - 1) * 2 + count - 1) // (2 * (count - 1)) for i in range(count)]


# As AutoFormer takes them.
PREFIXES = Slicing()
