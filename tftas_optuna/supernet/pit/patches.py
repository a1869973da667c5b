"""The patches of an all-ones image in a PiT, whole or collapsed, and how they are pooled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


class Patches(Protocol):
    """What a pass needs to know of the patches; those of some candidates are
    (candidates, patches, width)."""

    def embed(self, patch: Tensor, pos_embed: Tensor) -> Tensor:
        """Return the patches of the first stage, (patches, width).

        Args:
            patch: The embedding that all patches share, shape (width,).
            pos_embed: Position embedding, shape (1, width, rows, columns).
        """

    def pool(self, stage: int, patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Apply the convolution that leads into a stage: 3x3, stride 2, channel by channel."""

    def key_weights(self, stage: int) -> Tensor | None:
        """Return logarithms of how many tokens each stands for, class token first; None for 1."""


class PatchGrid:
    """Every patch is a token.

    Args:
        grids: Patches along one side of the image, in each stage.
        device: Where the pass runs.
    """

    def __init__(self, grids: tuple[int, ...], device: torch.device) -> None:
        self._grids = grids

    def embed(self, patch: Tensor, pos_embed: Tensor) -> Tensor:
        return patch + pos_embed[0].flatten(1).T

    def pool(self, stage: int, patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        side = self._grids[stage - 1]
        # cuDNN, which takes over where channels come last, would round to TF32.
        before = patches.transpose(1, 2).unflatten(2, (side, side)).contiguous()
        groups = before.shape[1]
        after = F.conv2d(before, weight, bias, stride=2, padding=1, groups=groups)
        return after.flatten(2).transpose(1, 2)

    def key_weights(self, stage: int) -> Tensor | None:
        return None


class PatchClasses:
    """Equal patches are one token.

    With the mean of the position embedding in place of each position, all patches of an all-ones
    image are equal in the first stage. Behind a convolution those at the borders, which saw
    padding, differ from the rest: along each side there are at most three kinds of patches, in
    the plane nine, however large the grid.

    Args:
        grids: Patches along one side of the image, in each stage.
        device: Where the pass runs.
    """

    def __init__(self, grids: tuple[int, ...], device: torch.device) -> None:
        kinds = [0] * grids[0]
        self._taps: list[Tensor] = []
        self._key_weights: list[Tensor] = []
        for stage in range(len(grids)):
            if stage > 0:
                # -1 is the padding.
                padded = [-1, *kinds, -1]
                seen = [tuple(padded[2 * i : 2 * i + 3]) for i in range(grids[stage])]
                distinct = list(dict.fromkeys(seen))
                kinds = [distinct.index(taps) for taps in seen]
                self._taps.append(torch.tensor(distinct, device=device))
            counts = torch.bincount(torch.tensor(kinds, device=device)).double()
            tokens = F.pad(torch.outer(counts, counts).flatten(), (1, 0), value=1.0)
            self._key_weights.append(tokens.log())

    def embed(self, patch: Tensor, pos_embed: Tensor) -> Tensor:
        return (patch + pos_embed.mean((0, 2, 3)))[None]

    def pool(self, stage: int, patches: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        taps = self._taps[stage - 1]
        side = round(patches.shape[1] ** 0.5)
        # The padding is the last row and column, where index -1 finds it.
        before = F.pad(patches.unflatten(1, (side, side)), (0, 0, 0, 1, 0, 1))
        seen = before[:, taps][:, :, :, taps]
        seen = seen.repeat_interleave(len(weight) // before.shape[3], -1)
        after = torch.einsum("niajbc,cab->nijc", seen, weight[:, 0]) + bias
        return after.flatten(1, 2)

    def key_weights(self, stage: int) -> Tensor | None:
        return self._key_weights[stage]
