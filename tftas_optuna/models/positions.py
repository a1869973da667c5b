"""Resamples position embeddings for images of another size, as timm does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer

if TYPE_CHECKING:
    from torch import Tensor, nn


def fit_positions(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Resample the position embeddings of weights to the grid of patches of a network.

    Tables of relative positions fit every grid as they are. Networks that are no Vision
    Transformers of timm's take their weights unchanged.

    Args:
        state: The weights, by name.
        model: The network that is to take them.

    Returns:
        The weights, with positions that fit.
    """
    found = state.get("pos_embed")
    own = getattr(model, "pos_embed", None)
    if found is None or own is None or found.ndim != own.ndim:
        return state
    if isinstance(model, PoolingVisionTransformer):
        return {**state, "pos_embed": resample_map(found, model.patch_embed.grid_size)}
    if not isinstance(model, VisionTransformer):
        return state
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    patches = found.shape[1] - prefix
    grid, wanted = _source_grid(model, patches), model.patch_embed.grid_size
    if grid[0] * grid[1] != patches or grid == wanted:
        return state
    fitted = resample_abs_pos_embed(
        found, new_size=wanted, old_size=grid, num_prefix_tokens=prefix
    )
    return {**state, "pos_embed": fitted}


def _source_grid(model: VisionTransformer, patches: int) -> tuple[int, int]:
    # While timm loads weights, this is what their configuration says of them.
    size = getattr(model, "pretrained_cfg", {}).get("input_size")
    grid = tuple(model.patch_embed.dynamic_feat_size(tuple(size[-2:]))) if size else (0, 0)
    if grid[0] * grid[1] == patches:
        return grid
    side = round(max(patches, 0) ** 0.5)
    return side, side


def resample_map(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample positions that are a map, shape (1, channels, rows, columns)."""
    resampled: Tensor = resample_abs_pos_embed_nhwc(positions.permute(0, 2, 3, 1), list(grid))
    return resampled.permute(0, 3, 1, 2).contiguous()
