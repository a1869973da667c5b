"""The patches of an all-ones image in a PiT, whole or collapsed, and how they are pooled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


class Convolution(Protocol):
    """The convolution that leads into a stage: 3x3, stride 2, channel by channel.

    Patches of some candidates have the shape (candidates, patches, width).
    """

    def forward(self, patches: Tensor) -> Tensor:
        """Apply it."""

    def backward(self, grad: Tensor, patches: Tensor) -> Tensor:
        """Turn gradients of what came out into gradients of the patches that went in."""


class Patches(Protocol):
    """What a pass needs to know of the patches."""

    def embed(self, patch: Tensor, pos_embed: Tensor) -> Tensor:
        """Return the patches of the first stage, (patches, width).

        Args:
            patch: The embedding that all patches share, shape (width,).
            pos_embed: Position embedding, shape (1, width, rows, columns).
        """

    def convolution(self, stage: int, weight: Tensor, bias: Tensor) -> Convolution:
        """Make the convolution that leads into a stage.

        Args:
            stage: The stage.
            weight: Shape (out, 1, 3, 3).
            bias: Shape (out,).
        """

    def key_weights(self, stage: int) -> Tensor | None:
        """Return logarithms of how many tokens each stands for, class token first; None for 1."""


class _GridConvolution(NamedTuple):
    """A convolution of a plane of patches."""

    side: int
    weight: Tensor
    bias: Tensor

    def forward(self, patches: Tensor) -> Tensor:
        before = self._plane(patches, self.side)
        groups = before.shape[1]
        after = F.conv2d(before, self.weight, self.bias, stride=2, padding=1, groups=groups)
        return after.flatten(2).transpose(1, 2)

    def backward(self, grad: Tensor, patches: Tensor) -> Tensor:
        before = self._plane(patches, self.side)
        found: Tensor = torch.ops.aten.convolution_backward(
            self._plane(grad, round(grad.shape[1] ** 0.5)),
            before,
            self.weight,
            None,
            [2, 2],
            [1, 1],
            [1, 1],
            False,
            [0, 0],
            before.shape[1],
            [True, False, False],
        )[0]
        return found.flatten(2).transpose(1, 2)

    def _plane(self, patches: Tensor, side: int) -> Tensor:
        # cuDNN, which takes over where channels come last, would round to TF32.
        return patches.transpose(1, 2).unflatten(2, (side, side)).contiguous()


class _ClassConvolution(NamedTuple):
    """A convolution of classes of equal patches: for every channel, one small matrix.

    Attributes:
        matrices: What a patch that comes out takes of each that goes in, shape (out channels,
            patches after, patches before).
        bias: Shape (out channels,).
    """

    matrices: Tensor
    bias: Tensor

    def forward(self, patches: Tensor) -> Tensor:
        out, after, _ = self.matrices.shape
        # Each channel that goes in feeds as many neighbours among those that come out.
        found = self._by_channel(patches.shape[2]) @ patches.permute(2, 1, 0)
        return found.view(out, after, -1).permute(2, 1, 0) + self.bias

    def backward(self, grad: Tensor, patches: Tensor) -> Tensor:
        into = patches.shape[2]
        by_channel = grad.permute(2, 1, 0).reshape(into, -1, len(grad))
        return (self._by_channel(into).transpose(1, 2) @ by_channel).permute(2, 1, 0)

    def _by_channel(self, into: int) -> Tensor:
        return self.matrices.reshape(into, -1, self.matrices.shape[2])


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

    def convolution(self, stage: int, weight: Tensor, bias: Tensor) -> Convolution:
        return _GridConvolution(self._grids[stage - 1], weight, bias)

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
        self._taken: list[Tensor] = []
        self._key_weights: list[Tensor] = []
        for stage in range(len(grids)):
            if stage > 0:
                # -1 is the padding.
                padded = [-1, *kinds, -1]
                seen = [tuple(padded[2 * i : 2 * i + 3]) for i in range(grids[stage])]
                distinct = list(dict.fromkeys(seen))
                self._taken.append(_taken(distinct, 1 + max(kinds)).to(device))
                kinds = [distinct.index(taps) for taps in seen]
            counts = torch.bincount(torch.tensor(kinds, device=device)).double()
            tokens = F.pad(torch.outer(counts, counts).flatten(), (1, 0), value=1.0)
            self._key_weights.append(tokens.log())

    def embed(self, patch: Tensor, pos_embed: Tensor) -> Tensor:
        return (patch + pos_embed.mean((0, 2, 3)))[None]

    def convolution(self, stage: int, weight: Tensor, bias: Tensor) -> Convolution:
        taken = self._taken[stage - 1].to(weight.dtype)
        matrices = weight.flatten(1) @ taken.flatten(1)
        return _ClassConvolution(matrices.view(-1, *taken.shape[1:]), bias)

    def key_weights(self, stage: int) -> Tensor | None:
        return self._key_weights[stage]


def _taken(kinds: list[tuple[int, ...]], n_before: int) -> Tensor:
    """Mark what each kind of patch takes by each tap of the convolution, along both sides.

    Args:
        kinds: Kinds of patches before the convolution that three taps in a row see, by the kind
            of patch behind it; -1 is the padding.
        n_before: Kinds of patches before it.

    Returns:
        Shape (taps, patches after, patches before), all along both sides.
    """
    along = torch.stack([torch.tensor(kinds) == kind for kind in range(n_before)], -1).double()
    return torch.einsum("iap,jbq->abijpq", along, along).flatten(4).flatten(2, 3).flatten(0, 1)
