"""The tokens of the all-ones image, on the full grid or collapsed, and their positions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import torch

from tftas_optuna.architecture.autoformer import offset_rows
from tftas_optuna.supernet.attention import Attention, PairwiseAttention
from tftas_optuna.supernet.autoformer.attention import RelativeAttention

if TYPE_CHECKING:
    from torch import Tensor

    from tftas_optuna.supernet.attention import HeadGroup


class Positions(Protocol):
    """The tokens of a pass and their relative positions."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the tokens of the pass, class token first, from all (1 + patches, width)."""

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """Join the two tables of a block into one, as :meth:`attend` takes it."""

    def attend(
        self,
        qkv: Tensor,
        group: HeadGroup,
        embeddings: tuple[Tensor, Tensor] | None,
        out: Tensor | None,
    ) -> Attention | PairwiseAttention:
        """Run the attention of a block.

        Args:
            qkv: Outputs of ``qkv``, shape (candidates, tokens, 3 * inner).
            group: How to cut them into heads.
            embeddings: The position embeddings of keys and of values, by :meth:`embeddings`.
            out: Where to write the outputs; None for a new tensor.
        """


class GridPositions:
    """Every patch of the image is a token.

    Positions are encoded by a few binary features of the keys and by an index: for each query and
    feature, the embedding that the query uses with keys that have the feature. The features are
    appended to the keys as extra columns, so neither the forward nor the backward pass needs a
    tensor of shape (tokens, tokens, head_dim).

    The features of a key are: a constant 1, whether it is the class token, and a one-hot code of
    its row; then the same with columns. As a query, the class token uses one embedding for every
    key, so only the constant matters to it; to patches only the other features matter. Features
    that do not matter use an embedding of zeros. That keeps the sums for all other embeddings
    short, so that a GPU, which adds in any order, gives the same result every time.

    Args:
        grid: Patches along one side of the image.
        max_distance: Largest offset that has its own embedding.
        device: Where the pass runs.
    """

    def __init__(self, grid: int, max_distance: int, device: torch.device) -> None:
        rows = 2 * max_distance + 2
        # Products are faster if the number of columns fills the vector registers.
        self._n_embeddings = _padded(2 * rows + 1)
        shape = 1 + grid * grid, 2, _padded(2 + grid)
        features = torch.zeros(shape, device=device)
        features[:, :, 0] = features[0, :, 1] = 1
        zeros = 2 * rows  # the row of the embedding of zeros
        index = torch.full(shape, zeros, device=device)
        index[0, :, 0] = index[1:, :, 1] = torch.tensor([0, rows], device=device)
        offsets = torch.tensor(offset_rows(grid, max_distance), device=device)
        patch = torch.arange(grid * grid, device=device)
        for axis, line in enumerate((patch // grid, patch % grid)):
            features[1 + patch, axis, 2 + line] = 1
            index[1:, axis, 2 : 2 + grid] = offsets[line] + axis * rows
        self._features = features.flatten(1)
        self._index = index.flatten(1)

    def embed(self, tokens: Tensor) -> Tensor:
        return tokens

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        tables = torch.cat((vertical, horizontal))
        return torch.nn.functional.pad(tables, (0, 0, 0, self._n_embeddings - len(tables)))

    def attend(
        self,
        qkv: Tensor,
        group: HeadGroup,
        embeddings: tuple[Tensor, Tensor] | None,
        out: Tensor | None,
    ) -> Attention:
        if embeddings is None:
            return Attention(qkv, group, None, out)
        return RelativeAttention(qkv, group, embeddings, self._features, self._index, out)


class CollapsedPositions:
    """One patch token stands for all patches, with the mean of their position embeddings.

    In an all-ones image every patch embeds to the same vector, so patches differ only by their
    positions. With the mean over patches, and over pairs of patches, all patch tokens are equal
    from the first layer to the last.

    Args:
        grid: Patches along one side of the image.
        max_distance: Largest offset that has its own embedding.
        device: Where the pass runs.
    """

    def __init__(self, grid: int, max_distance: int, device: torch.device) -> None:
        counts = torch.tensor([1.0, grid * grid], dtype=torch.float64, device=device)
        self._key_weights = counts.log()
        self._offsets = torch.tensor(offset_rows(grid, max_distance), device=device).flatten()

    def embed(self, tokens: Tensor) -> Tensor:
        return torch.stack((tokens[0], tokens[1:].mean(0)))

    def embeddings(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        with_class = vertical[0] + horizontal[0]
        mean = vertical[self._offsets].mean(0) + horizontal[self._offsets].mean(0)
        pairs = torch.stack((with_class, with_class, with_class, mean))
        return pairs.view(2, 2, 1, -1)

    def attend(
        self,
        qkv: Tensor,
        group: HeadGroup,
        embeddings: tuple[Tensor, Tensor] | None,
        out: Tensor | None,
    ) -> PairwiseAttention:
        if embeddings is not None:
            keys, values = embeddings
            embeddings = keys[..., : group.head_dim], values[..., : group.head_dim]
        return PairwiseAttention(qkv, group, self._key_weights, embeddings, out)


def _padded(size: int) -> int:
    return 8 * math.ceil(size / 8)
