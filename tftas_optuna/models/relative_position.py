"""2-D relative position embeddings of keys and values, in factorised form."""

from __future__ import annotations

import copy

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from tftas_optuna.architecture.autoformer import offset_rows


class RelativePosition2d(nn.Module):
    """One table of vertical and one of horizontal offsets between tokens.

    Source: Shaw et al. 2018 and Wu et al. 2021, as AutoFormer uses them. The embedding of the
    pair (query i, key j) is ``vertical[row offset] + horizontal[column offset]``. Row 0 of both
    tables is for pairs with the class token; the other rows are for the offsets
    ``-max_distance`` to ``max_distance``, and larger offsets are clipped.

    The sum of the two tables is never expanded to all pairs of tokens: products with rows and
    with columns of the grid are computed separately.

    Args:
        head_dim: Width of one attention head.
        max_distance: Largest offset that has its own row.
        grid: Rows and columns of the patch grid.
    """

    def __init__(self, head_dim: int, max_distance: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.vertical = nn.Parameter(torch.empty(2 * max_distance + 2, head_dim))
        self.horizontal = nn.Parameter(torch.empty(2 * max_distance + 2, head_dim))
        self.row_offset: Tensor
        self.column_offset: Tensor
        self.set_grid(grid)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        trunc_normal_(self.vertical, std=0.02)
        trunc_normal_(self.horizontal, std=0.02)

    def set_grid(self, grid: tuple[int, int]) -> None:
        """Recompute the offsets for a grid of patches; the tables stay the same."""
        self.grid = grid
        device = self.vertical.device
        for name, side in zip(("row_offset", "column_offset"), grid, strict=True):
            index = torch.tensor(offset_rows(side, self.max_distance), device=device)
            self.register_buffer(name, index, persistent=False)

    def on_grid(self, grid: tuple[int, int]) -> RelativePosition2d:
        """Return a copy for another grid of patches that shares the tables."""
        other = copy.copy(self)
        other._buffers = dict(self._buffers)
        other.set_grid(grid)
        return other

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embeddings of all offsets.

        Returns:
            Embeddings of (query row, key row), shape (rows, rows, head_dim); of (query column,
            key column), shape (columns, columns, head_dim); and of pairs with the class token,
            shape (head_dim,).
        """
        class_pair = self.vertical[0] + self.horizontal[0]
        return self.vertical[self.row_offset], self.horizontal[self.column_offset], class_pair


def key_positions(n_rows: int, n_columns: int, like: Tensor) -> Tensor:
    """Return one-hot positions of all tokens: whether it is the class token, its row, its column.

    Args:
        n_rows: Rows of the patch grid.
        n_columns: Columns of the patch grid.
        like: A tensor that defines dtype and device.

    Returns:
        Zeros and ones, shape (tokens, 1 + rows + columns), class token first.
    """
    row = torch.eye(n_rows, dtype=like.dtype, device=like.device)
    column = torch.eye(n_columns, dtype=like.dtype, device=like.device)
    patches = torch.cat((row.repeat_interleave(n_columns, 0), column.repeat(n_rows, 1)), dim=1)
    class_token = torch.ones(1, 1, dtype=like.dtype, device=like.device)
    return torch.block_diag(class_token, patches)


def query_embeddings(rows: Tensor, columns: Tensor, class_pair: Tensor) -> Tensor:
    """Return, for every query, the embeddings of the components of :func:`key_positions`.

    The embedding of the pair (query i, key j) is ``key_positions[j] @ query_embeddings[i]``. So
    relative positions of keys are further components of queries and keys, and those of values are
    further components of values: attention with both is plain attention of longer vectors.

    Args:
        rows: Embeddings of row pairs, shape (rows, rows, head_dim).
        columns: Embeddings of column pairs, shape (columns, columns, head_dim).
        class_pair: Embedding of pairs with the class token, shape (head_dim,).

    Returns:
        Shape (tokens, 1 + rows + columns, head_dim), class token first.
    """
    n_rows, n_columns = len(rows), len(columns)
    by_row = rows.repeat_interleave(n_columns, 0)
    by_column = columns.repeat(n_rows, 1, 1)
    class_first = class_pair.expand(n_rows * n_columns, 1, -1)
    patches = torch.cat((class_first, by_row, by_column), dim=1)
    # As a query, the class token has the same embedding for every key; columns add zero.
    same = class_pair.expand(1 + n_rows, -1)
    first = torch.cat((same, class_pair.new_zeros(n_columns, len(class_pair))))
    return torch.cat((first.unsqueeze(0), patches))


def key_bias(query: Tensor, rows: Tensor, columns: Tensor, class_pair: Tensor) -> Tensor:
    """Return the products of all queries with the relative embeddings of all keys.

    Args:
        query: Shape (batch, heads, 1 + rows * columns, head_dim), class token first.
        rows: Shape (rows, rows, head_dim).
        columns: Shape (columns, columns, head_dim).
        class_pair: Shape (head_dim,).

    Returns:
        Shape (batch, heads, tokens, tokens), to be added to ``query @ key.T``.
    """
    batch, heads, tokens, _ = query.shape
    n_rows, n_columns = rows.shape[0], columns.shape[0]
    grid = query[:, :, 1:].unflatten(2, (n_rows, n_columns))
    by_row = torch.einsum("bhrcd,rsd->bhrcs", grid, rows)
    by_column = torch.einsum("bhrcd,ctd->bhrct", grid, columns)
    patches = by_row.unsqueeze(-1) + by_column.unsqueeze(-2)
    patches = patches.reshape(batch, heads, tokens - 1, tokens - 1)
    with_class = query @ class_pair
    below = torch.cat((with_class[:, :, 1:, None], patches), dim=3)
    first = with_class[:, :, :1, None].expand(-1, -1, -1, tokens)
    return torch.cat((first, below), dim=2)


def value_sum(attention: Tensor, rows: Tensor, columns: Tensor, class_pair: Tensor) -> Tensor:
    """Return the sum of the relative embeddings of all keys, weighted by the attention.

    Args:
        attention: Shape (batch, heads, tokens, tokens), class token first, each row summing to 1.
        rows: Shape (rows, rows, head_dim).
        columns: Shape (columns, columns, head_dim).
        class_pair: Shape (head_dim,).

    Returns:
        Shape (batch, heads, tokens, head_dim), to be added to ``attention @ value``.
    """
    n_rows, n_columns = rows.shape[0], columns.shape[0]
    patches = attention[:, :, 1:, 1:].unflatten(3, (n_rows, n_columns))
    patches = patches.unflatten(2, (n_rows, n_columns))
    by_row = torch.einsum("bhrcs,rsd->bhrcd", patches.sum(-1), rows)
    by_column = torch.einsum("bhrct,ctd->bhrcd", patches.sum(-2), columns)
    below = (by_row + by_column).flatten(2, 3) + attention[:, :, 1:, :1] * class_pair
    first = attention[:, :, :1].sum(-1, keepdim=True) * class_pair
    return torch.cat((first, below), dim=2)
