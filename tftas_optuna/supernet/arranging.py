"""The order in which a larger network's channels, heads and hidden units become a supernet's.

A slice is the first part of each, so the order decides what a small candidate begins with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

ORDERS = ("first", "even", "magnitude")


class LargerWeights(NamedTuple):
    """The weights of a plain Vision Transformer of timm.

    Attributes:
        architecture: Its architecture.
        tensors: The weights by timm's names, resampled for the supernet's image and patch size.
    """

    architecture: Any
    tensors: Mapping[str, Tensor]


def in_order(order: str, parts: Iterable[Tensor], count: int) -> Tensor:
    """Return the positions of the channels, heads or units that come first.

    Args:
        order: ``"first"``, as they are; ``"even"``, evenly spaced, so that the first half of them
            is every second one, and so on; or ``"magnitude"``, by the norm of all weights that
            write to them or read from them, the largest first.
        parts: These weights, each with its rows in the first dimension.
        count: How many are taken.

    Returns:
        Shape (count,).
    """
    parts = list(parts)
    total = len(parts[0])
    if order == "first":
        return torch.arange(count)
    if order == "even":
        return torch.tensor(_spread(total)[:count])
    squares = torch.stack([part.double().flatten(1).square().sum(1) for part in parts]).sum(0)
    return squares.argsort(descending=True, stable=True)[:count]


def _spread(total: int) -> list[int]:
    """Return all positions so that the first ones are spread evenly, however many are taken.

    It is the sequence of van der Corput, which reverses the binary digits of 0, 1, 2, ...
    """
    digits = max(total - 1, 1).bit_length()
    reversed_digits = (int(f"{i:0{digits}b}"[::-1], 2) for i in range(1 << digits))
    return [i for i in reversed_digits if i < total]


def check_holds(sizes: Iterable[tuple[str, float, float]]) -> None:
    """Check that a network is as large as a supernet.

    Args:
        sizes: Name, size of the supernet, size of the network.

    Raises:
        TftasError: It is smaller.
    """
    for name, own, theirs in sizes:
        if own > theirs:
            raise TftasError(f"{name} of the supernet is {own:g}, the network has {theirs:g}")
