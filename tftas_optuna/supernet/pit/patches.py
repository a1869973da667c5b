"""The patches of an all-ones image in a PiT, on the full grid or collapsed, and their pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor


class Convolution(Protocol):
    """The depthwise convolution before a stage: 3x3 with stride 2.

    Its inputs and outputs have the shape (candidates, patches, width).
    """

    def forward(self, patches: Tensor) -> Tensor:
        """Return the patches of the next stage."""

    def backward(self, grad: Tensor, patches: Tensor) -> Tensor:
        """Return the gradient of the input patches, given that of the output."""


class Patches(Protocol):
    """The patches of a pass in all stages."""

    def embed(self, patch: Tensor, pos_embed: Tensor) -> Tensor:
        """Return the patches of the first stage, shape (patches, width).

        Args:
            patch: The embedding that all patches share, shape (width,).
            pos_embed: Position embeddings, shape (1, width, rows, columns).
        """

    def convolution(self, stage: int, weight: Tensor, bias: Tensor) -> Convolution:
        """Return the convolution before a stage.

        Args:
            stage: Index of the stage.
            weight: Shape (out, 1, 3, 3).
            bias: Shape (out,).
        """

    def key_weights(self, stage: int) -> Tensor | None:
        """Return the logarithm of the number of patches per token, class token first, or None."""


class _GridConvolution(NamedTuple):
    """A convolution of the full grid of patches."""

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
        grad_before: Tensor = torch.ops.aten.convolution_backward(
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
        return grad_before.flatten(2).transpose(1, 2)

    def _plane(self, patches: Tensor, side: int) -> Tensor:
        # Contiguous, because cuDNN handles channels-last tensors and would round to TF32.
        return patches.transpose(1, 2).unflatten(2, (side, side)).contiguous()


class _ClassConvolution(NamedTuple):
    """A convolution of classes of equal patches, as one small matrix per channel.

    Attributes:
        matrices: Weight of every input patch in every output patch, shape (out channels, output
            patches, input patches).
        bias: Shape (out channels,).
    """

    matrices: Tensor
    bias: Tensor

    def forward(self, patches: Tensor) -> Tensor:
        out, after, _ = self.matrices.shape
        # Each input channel feeds the same number of adjacent output channels.
        product = self._by_channel(patches.shape[2]) @ patches.permute(2, 1, 0)
        return product.view(out, after, -1).permute(2, 1, 0) + self.bias

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
    """Each class of equal patches is one token.

    With the mean position embedding in every place, all patches of an all-ones image are equal
    in the first stage. After a convolution, patches at the borders differ from the rest because
    of the padding: there are at most three kinds of patches along each side, so at most nine
    classes, for any size of the grid.

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
                windows = [tuple(padded[2 * i : 2 * i + 3]) for i in range(grids[stage])]
                distinct = list(dict.fromkeys(windows))
                self._taps.append(_taps(distinct, 1 + max(kinds)).to(device))
                kinds = [distinct.index(window) for window in windows]
            counts = torch.bincount(torch.tensor(kinds, device=device)).double()
            tokens = F.pad(torch.outer(counts, counts).flatten(), (1, 0), value=1.0)
            self._key_weights.append(tokens.log())

    def embed(self, patch: Tensor, pos_embed: Tensor) -> Tensor:
        return (patch + pos_embed.mean((0, 2, 3)))[None]

    def convolution(self, stage: int, weight: Tensor, bias: Tensor) -> Convolution:
        taps = self._taps[stage - 1].to(weight.dtype)
        matrices = weight.flatten(1) @ taps.flatten(1)
        return _ClassConvolution(matrices.view(-1, *taps.shape[1:]), bias)

    def key_weights(self, stage: int) -> Tensor | None:
        return self._key_weights[stage]


def _taps(kinds: list[tuple[int, ...]], n_before: int) -> Tensor:
    """Mark the class of input patches that each tap of the convolution reads.

    Args:
        kinds: For each kind of output patch along one side, the kinds of input patches that the
            three taps read; -1 is the padding.
        n_before: Number of kinds of input patches along one side.

    Returns:
        Tensor of 0 and 1, shape (taps, output classes, input classes), for the whole plane.
    """
    along = torch.stack([torch.tensor(kinds) == kind for kind in range(n_before)], -1).double()
    return torch.einsum("iap,jbq->abijpq", along, along).flatten(4).flatten(2, 3).flatten(0, 1)
