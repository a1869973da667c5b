"""Resamples position embeddings for images of another size, as timm does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer

if TYPE_CHECKING:
    from torch import Tensor, nn


def fit_positions(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Resample the position embeddings of a state dict to the patch grid of a network.

    Tables of relative positions fit every grid. The weights of networks that are not timm's
    Vision Transformers are returned unchanged.

    Args:
        state: The weights, by name.
        model: The network that will load them.

    Returns:
        The weights, with resampled position embeddings.
    """
    source = state.get("pos_embed")
    target = getattr(model, "pos_embed", None)
    if source is None or target is None or source.ndim != target.ndim:
        return state
    if isinstance(model, PoolingVisionTransformer):
        return {**state, "pos_embed": resample_map(source, model.patch_embed.grid_size)}
    if not isinstance(model, VisionTransformer):
        return state
    prefix = 0 if model.no_embed_class else model.num_prefix_tokens
    patches = source.shape[1] - prefix
    grid, new_grid = _source_grid(model, patches), model.patch_embed.grid_size
    if grid[0] * grid[1] != patches or grid == new_grid:
        return state
    resampled = resample_abs_pos_embed(
        source, new_size=new_grid, old_size=grid, num_prefix_tokens=prefix
    )
    return {**state, "pos_embed": resampled}


def _source_grid(model: VisionTransformer, patches: int) -> tuple[int, int]:
    # While timm loads weights, the configuration contains the input size of these weights.
    size = getattr(model, "pretrained_cfg", {}).get("input_size")
    grid = tuple(model.patch_embed.dynamic_feat_size(tuple(size[-2:]))) if size else (0, 0)
    if grid[0] * grid[1] == patches:
        return grid
    side = round(max(patches, 0) ** 0.5)
    return side, side


def resample_map(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resample a map of position embeddings, shape (1, channels, rows, columns)."""
    resampled: Tensor = resample_abs_pos_embed_nhwc(positions.permute(0, 2, 3, 1), list(grid))
    return resampled.permute(0, 3, 1, 2).contiguous()
