"""The tokens of the all-ones image, whole or collapsed, and how they see each other's place.

Both classes speak of relative positions through a few embeddings per block. ``spread`` turns the
products of a token with each embedding into values for each pair of tokens, and ``gather`` is its
transpose: it sums values of pairs into weights of embeddings. Forward and backward pass need
nothing else, and never a tensor of (tokens, tokens, head_dim).
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

    def embed(self, tokens: Tensor) -> Tensor:
        """Turn (1 + patches, width) into the tokens of the pass, class token first."""

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """Turn the tables of a block into (embeddings, head_dim)."""

    def spread(self, products: Tensor) -> Tensor:
        """Turn (batch, tokens, embeddings) into (batch, tokens, tokens)."""

    def gather(self, pairs: Tensor) -> Tensor:
        """Turn (batch, tokens, tokens) into (batch, tokens, embeddings)."""


class GridPositions:
    """Every patch of the image is a token.

    Args:
        grid: Patches along one side of the image.
        max_distance: Largest offset with an embedding of its own.
        device: Where the pass runs.
    """

    def __init__(self, grid: int, max_distance: int, device: torch.device) -> None:
        self.grid = grid
        self.n_tokens = 1 + grid * grid
        self.key_weights: Tensor | None = None
        self._rows = 2 * max_distance + 2
        index = torch.tensor(offset_rows(grid, max_distance), device=device)
        patch = torch.arange(grid * grid, device=device)
        # Table row for each (query patch, key row) and (query patch, key column).
        self._row_index = index[patch // grid]
        self._column_index = index[patch % grid] + self._rows

    def embed(self, tokens: Tensor) -> Tensor:
        return tokens

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        return torch.cat((vertical, horizontal))

    def spread(self, products: Tensor) -> Tensor:
        batch, tokens, _ = products.shape
        patches = products[:, 1:]
        by_row = patches.gather(2, self._row_index.expand(batch, -1, -1))
        by_column = patches.gather(2, self._column_index.expand(batch, -1, -1))
        pairs = products.new_empty(batch, tokens, tokens)
        inner = pairs[:, 1:, 1:].unflatten(2, (self.grid, self.grid))
        torch.add(by_row.unsqueeze(3), by_column.unsqueeze(2), out=inner)
        with_class = products[:, :, 0] + products[:, :, self._rows]
        pairs[:, :, 0] = with_class
        pairs[:, 0, 1:] = with_class[:, :1]
        return pairs

    def gather(self, pairs: Tensor) -> Tensor:
        batch, tokens, _ = pairs.shape
        patches = pairs[:, 1:, 1:].unflatten(2, (self.grid, self.grid))
        weights = pairs.new_zeros(batch, tokens, 2 * self._rows)
        inner = weights[:, 1:]
        inner.scatter_add_(2, self._row_index.expand(batch, -1, -1), patches.sum(3))
        inner.scatter_add_(2, self._column_index.expand(batch, -1, -1), patches.sum(2))
        weights[:, 1:, 0] = weights[:, 1:, self._rows] = pairs[:, 1:, 0]
        weights[:, 0, 0] = weights[:, 0, self._rows] = pairs[:, 0].sum(1)
        return weights


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
        self._index = torch.tensor(offset_rows(grid, max_distance), device=device).flatten()

    def embed(self, tokens: Tensor) -> Tensor:
        return torch.stack((tokens[0], tokens[1:].mean(0)))

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        with_class = vertical[0] + horizontal[0]
        mean = vertical[self._index].mean(0) + horizontal[self._index].mean(0)
        return torch.stack((with_class, mean))

    def spread(self, products: Tensor) -> Tensor:
        first = products[:, :1, :1].expand(-1, -1, 2)
        return torch.cat((first, products[:, 1:]), dim=1)

    def gather(self, pairs: Tensor) -> Tensor:
        first = pairs[:, :1].sum(2, keepdim=True)
        return torch.cat((torch.nn.functional.pad(first, (0, 1)), pairs[:, 1:]), dim=1)
