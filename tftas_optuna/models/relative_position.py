"""2-D relative positions on keys and values, in factorised form."""

from __future__ import annotations

import copy

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from tftas_optuna.architecture.autoformer import offset_rows


class RelativePosition2d(nn.Module):
    """One table of vertical and one of horizontal offsets between tokens.

    Source: Shaw et al. 2018 and Wu et al. 2021, as AutoFormer uses them. The embedding of the
    pair (query i, key j) is ``vertical[row offset] + horizontal[column offset]``; row 0 of both
    tables serves every pair that involves the class token, the other rows serve the offsets
    ``-max_distance`` to ``max_distance``, beyond which they are clipped.

    The sum of two tables never has to be spread over all pairs of tokens: a query meets the rows
    and the columns of the grid one after the other.

    Args:
        head_dim: Width of one attention head.
        max_distance: Largest offset with a row of its own.
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
        """Fit the offsets to a grid of patches; the tables stay as they are."""
        self.grid = grid
        device = self.vertical.device
        for name, side in zip(("row_offset", "column_offset"), grid, strict=True):
            index = torch.tensor(offset_rows(side, self.max_distance), device=device)
            self.register_buffer(name, index, persistent=False)

    def on_grid(self, grid: tuple[int, int]) -> RelativePosition2d:
        """Return a twin of the same tables for another grid of patches."""
        twin = copy.copy(self)
        twin._buffers = dict(self._buffers)
        twin.set_grid(grid)
        return twin

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Look the offsets up.

        Returns:
            Embeddings of (query row, key row), shape (rows, rows, head_dim); of (query column,
            key column), shape (columns, columns, head_dim); and of pairs with the class token,
            shape (head_dim,).
        """
        class_pair = self.vertical[0] + self.horizontal[0]
        return self.vertical[self.row_offset], self.horizontal[self.column_offset], class_pair


def places(n_rows: int, n_columns: int, like: Tensor) -> Tensor:
    """Tell where each token stands, as coordinates: class token or not, its row, its column.

    Args:
        n_rows: Rows of the patch grid.
        n_columns: Columns of the patch grid.
        like: A tensor of the wanted type, on the wanted device.

    Returns:
        Zeros and ones, shape (tokens, 1 + rows + columns), class token first.
    """
    row = torch.eye(n_rows, dtype=like.dtype, device=like.device)
    column = torch.eye(n_columns, dtype=like.dtype, device=like.device)
    patches = torch.cat((row.repeat_interleave(n_columns, 0), column.repeat(n_rows, 1)), dim=1)
    class_token = torch.ones(1, 1, dtype=like.dtype, device=like.device)
    return torch.block_diag(class_token, patches)


def seen_from(rows: Tensor, columns: Tensor, class_pair: Tensor) -> Tensor:
    """Return embeddings of every coordinate of :func:`places`, as each token sees it.

    The embedding of the pair (query i, key j) is ``places[j] @ seen_from[i]``. So relative
    positions of keys are further components of queries and keys, and those of values are further
    components of values: attention with both is plain attention of longer vectors.

    Args:
        rows: Shape (rows, rows, head_dim).
        columns: Shape (columns, columns, head_dim).
        class_pair: Shape (head_dim,).

    Returns:
        Shape (tokens, 1 + rows + columns, head_dim), class token first.
    """
    n_rows, n_columns = len(rows), len(columns)
    by_row = rows.repeat_interleave(n_columns, 0)
    by_column = columns.repeat(n_rows, 1, 1)
    class_first = class_pair.expand(n_rows * n_columns, 1, -1)
    patches = torch.cat((class_first, by_row, by_column), dim=1)
    # The class token sees every other token alike: by its row alone.
    alike = class_pair.expand(1 + n_rows, -1)
    first = torch.cat((alike, class_pair.new_zeros(n_columns, len(class_pair))))
    return torch.cat((first.unsqueeze(0), patches))


def key_bias(query: Tensor, rows: Tensor, columns: Tensor, class_pair: Tensor) -> Tensor:
    """Multiply every query with the relative embedding of every key.

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
    """Sum the relative embeddings of all keys, weighted by the attention.

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
