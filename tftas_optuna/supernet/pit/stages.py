"""The steps of a pass through a PiT, forward and backward, for candidates with the same heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:

    from torch import Tensor

    from tftas_optuna.supernet.linear import LinearStack

LAYER_NORM_EPS = 1e-6


class StageWeights(NamedTuple):
    """Absolute weights of the blocks of one stage of the supernet, at full size.

    Attributes:
        linears: The linear layers of the blocks. Rows of ``attn.qkv`` are ordered (unit,
            query/key/value), so that a smaller width is a prefix.
        norms: Weights and biases of the two normalisations of each block.
    """

    linears: dict[str, LinearStack]
    norms: list[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]


class PoolWeights(NamedTuple):
    """Absolute weights of the pooling between two stages of the supernet, at full size."""

    weight: Tensor
    bias: Tensor
    fc: LinearStack
