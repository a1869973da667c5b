"""One forward and backward pass through the absolute weights of a PiT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from tftas_optuna.supernet.trace import LinearTrace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.architecture import PiTArchitecture
    from tftas_optuna.supernet.linear import CentredLinear
    from tftas_optuna.supernet.pit.patches import Patches
    from tftas_optuna.supernet.trace import Role

LAYER_NORM_EPS = 1e-6


class PiTPass:
    """Runs one candidate.

    Only the outputs of linear layers are differentiated: weights get no gradient. The mean of
    every token is carried beside it, because normalisations ignore it and only the convolutions
    between the stages read it.

    Args:
        arch: The candidate.
        linears: Its linear layers, by the names of the stand-alone network.
        weights: Its other absolute weights, by the same names.
        patches: The patches.
        plain_norms: Whether normalisations have unit weights and no bias, so that their outputs
            sum to zero.
    """

    def __init__(
        self,
        arch: PiTArchitecture,
        linears: Mapping[str, CentredLinear],
        weights: Mapping[str, Tensor],
        patches: Patches,
        *,
        plain_norms: bool,
    ) -> None:
        self._arch = arch
        self._linears = linears
        self._weights = weights
        self._patches = patches
        self._plain_norms = plain_norms
        self._layers: list[tuple[str, Role, Tensor, Tensor]] = []

    def run(self) -> list[LinearTrace]:
        """Return the counted layers from the last to the first."""
        weights = self._weights
        # Every patch of an all-ones image embeds to the same vector: the sums of the filters.
        patch = weights["patch_embed.conv.weight"].sum((1, 2, 3))
        patches = self._patches.embed(
            patch + weights["patch_embed.conv.bias"], weights["pos_embed"]
        )
        first = weights["cls_token"][0].clone().requires_grad_()
        for stage, depth in enumerate(self._arch.depth):
            name = f"transformers.{stage}"
            if stage > 0:
                conv = f"{name}.pool.conv"
                patches = self._patches.pool(
                    stage, patches, weights[f"{conv}.weight"], weights[f"{conv}.bias"]
                )
                y, shift = self._linear(f"{name}.pool.fc", "mlp", first)
                first = y + shift
            x = torch.cat((first, patches))
            mean = x.mean(-1, keepdim=True)
            x = x - mean
            for i in range(depth):
                x, mean = self._block(f"{name}.blocks.{i}", stage, x, mean)
            x = x + mean
            first, patches = x[:1], x[1:]
        logits = self._after_norm("head", "head", "norm", first)
        deltas = torch.autograd.grad(logits.sum(), [y for _, _, _, y in self._layers])
        return [
            self._trace(name, role, x, delta)
            for (name, role, x, _), delta in zip(self._layers[::-1], deltas[::-1], strict=True)
        ]

    def _block(self, name: str, stage: int, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        heads = self._arch.num_heads[stage]
        qkv = self._after_norm(f"{name}.attn.qkv", "attention", f"{name}.norm1", x)
        q, k, v = qkv.unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3).unbind(0)
        key_weights = self._patches.key_weights(stage)
        mask = None if key_weights is None else key_weights.to(x.dtype).expand(len(x), -1)
        out = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0]
        out = out.transpose(0, 1).flatten(1)
        y, shift = self._linear(f"{name}.attn.proj", "attention", out)
        x, mean = x + y, mean + shift
        hidden = self._after_norm(f"{name}.mlp.fc1", "mlp", f"{name}.norm2", x)
        y, shift = self._linear(f"{name}.mlp.fc2", "mlp", F.gelu(hidden))
        return x + y, mean + shift

    def _after_norm(self, name: str, role: Role, norm: str, x: Tensor) -> Tensor:
        weight, bias = self._weights[f"{norm}.weight"], self._weights[f"{norm}.bias"]
        x = F.layer_norm(x, x.shape[-1:], weight, bias, LAYER_NORM_EPS)
        y, shift = self._linear(name, role, x)
        return y if self._plain_norms else y + shift

    def _linear(self, name: str, role: Role, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply a layer; return its output less a shift, and the shift."""
        layer = self._linears[name]
        y = layer.forward(x)
        self._layers.append((name, role, x.detach(), y))
        return y, layer.shift(x)

    def _trace(self, name: str, role: Role, x: Tensor, delta: Tensor) -> LinearTrace:
        layer = self._linears[name]
        return LinearTrace(name, role, [layer.shape], layer.whole, x[None], delta[None])
