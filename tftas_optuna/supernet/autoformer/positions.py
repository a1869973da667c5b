"""The tokens of the all-ones image, whole or collapsed, and how they see each other's place.

Both classes say where tokens are by a few features of the keys, 0 or 1 each, and by an index: the
embedding with which a query meets a key that has a feature. So the place of a key is a vector of
its own beside it, and forward and backward pass never need a tensor of (tokens, tokens, head_dim).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch

from tftas_optuna.architecture.autoformer import offset_rows

if TYPE_CHECKING:
    from torch import Tensor


class Positions(Protocol):
    """What a pass needs to know of the tokens."""

    n_tokens: int
    key_weights: Tensor | None
    """Logarithms of how many tokens each key stands for, shape (tokens,); None for one each."""
    features: Tensor
    """What is so of a key and what is not, shape (tokens, features)."""
    index: Tensor
    """For each query and feature, which embedding, shape (tokens, features)."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Turn (1 + patches, width) into the tokens of the pass, class token first."""

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """Turn the tables of a block into (embeddings, head_dim)."""


class GridPositions:
    """Every patch of the image is a token.

    A key is a key, it is the class token or not, and it is in one of the rows; and all this once
    more with columns. The class token meets every key with one embedding, so to it only the first
    of these matters; to patches, the others. What does not matter meets an embedding of zeros: so
    sums of others have few terms, and a GPU, which adds in any order, finds the same ones again.

    Args:
        grid: Patches along one side of the image.
        max_distance: Largest offset with an embedding of its own.
        device: Where the pass runs.
    """

    def __init__(self, grid: int, max_distance: int, device: torch.device) -> None:
        self.n_tokens = 1 + grid * grid
        self.key_weights: Tensor | None = None
        rows = 2 * max_distance + 2
        # Products are faster where there are as many columns as registers hold.
        self._embeddings = _padded(2 * rows + 1)
        shape = self.n_tokens, 2, _padded(2 + grid)
        features = torch.zeros(shape, device=device)
        features[:, :, 0] = features[0, :, 1] = 1
        nothing = 2 * rows
        index = torch.full(shape, nothing, device=device)
        index[0, :, 0] = index[1:, :, 1] = torch.tensor([0, rows], device=device)
        offsets = torch.tensor(offset_rows(grid, max_distance), device=device)
        patch = torch.arange(grid * grid, device=device)
        for axis, place in enumerate((patch // grid, patch % grid)):
            features[1 + patch, axis, 2 + place] = 1
            index[1:, axis, 2 : 2 + grid] = offsets[place] + axis * rows
        self.features = features.flatten(1)
        self.index = index.flatten(1)

    def embed(self, tokens: Tensor) -> Tensor:
        return tokens

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        both = torch.cat((vertical, horizontal))
        return torch.nn.functional.pad(both, (0, 0, 0, self._embeddings - len(both)))


class CollapsedPositions:
    """One patch token stands for all of them, with the mean of their positions.

    In an all-ones image every patch embeds to the same vector, so only the positions tell
    patches apart. Taking their mean, over patches and over pairs of patches, makes all patch
    tokens equal from the first layer to the last.

    Args:
        grid: Patches along one side of the image.
        max_distance: Largest offset with an embedding of its own.
        device: Where the pass runs.
    """

    def __init__(self, grid: int, max_distance: int, device: torch.device) -> None:
        self.n_tokens = 2
        patches = math.log(grid * grid)
        self.key_weights: Tensor | None = torch.tensor(
            [0.0, patches], dtype=torch.float64, device=device
        )
        self.features = torch.eye(2, device=device)
        self.index = torch.tensor([[0, 0], [0, 1]], device=device)
        self._offsets = torch.tensor(offset_rows(grid, max_distance), device=device).flatten()

    def embed(self, tokens: Tensor) -> Tensor:
        return torch.stack((tokens[0], tokens[1:].mean(0)))

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        with_class = vertical[0] + horizontal[0]
        mean = vertical[self._offsets].mean(0) + horizontal[self._offsets].mean(0)
        return torch.stack((with_class, mean))


def _padded(size: int) -> int:
    return 8 * math.ceil(size / 8)
