"""The codes of images: which inputs of an activation are positive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def agreements(before: Tensor) -> Tensor:
    """Count the inputs of an activation that have the same sign in two images.

    Args:
        before: The inputs, shape (n, ...).

    Returns:
        Counts for all pairs, shape (n, n), in float64.
    """
    positive = before.flatten(1) > 0
    units = positive.shape[1]
    # As plus and minus one, products count agreements less differences. Sums of 2**24 ones are
    # exact in float32.
    total = before.new_zeros(len(positive), len(positive), dtype=torch.float64)
    for part in positive.split(1 << 24, dim=1):
        signs = part.to(torch.float32).mul_(2).sub_(1)
        total += (signs @ signs.T).double()
    return (total + units) / 2
