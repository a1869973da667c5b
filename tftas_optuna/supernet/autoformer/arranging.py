"""The weights of a Vision Transformer of timm as those of an AutoFormer supernet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError
from tftas_optuna.supernet.arranging import check_holds, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from tftas_optuna.architecture import AutoFormerArchitecture
    from tftas_optuna.supernet.arranging import LargerWeights


def arrange(
    largest: AutoFormerArchitecture,
    network: LargerWeights,
    order: str,
    blocks: list[int],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Tensor]:
    """Return the weights of an AutoFormer supernet.

    Tables of relative positions are zero, so the largest candidate computes what the network does,
    but for what its space defines otherwise: pooling and the epsilon of layer norms.

    Args:
        largest: The architecture of the supernet.
        network: The network.
        order: Which channels, heads and hidden units come first.
        blocks: The blocks of the network that the supernet takes.
        shapes: The shapes of the supernet's weights.

    Raises:
        TftasError: The supernet does not fit into the network.
    """
    theirs: AutoFormerArchitecture = network.architecture
    check_holds(
        (
            ("embed_dim", largest.embed_dim, theirs.embed_dim),
            ("depth", largest.depth, theirs.depth),
            ("num_heads", max(largest.num_heads), theirs.num_heads[0]),
            ("hidden width", max(largest.hidden_dim), theirs.hidden_dim[0]),
        )
    )
    if not largest.abs_pos:
        raise TftasError("the space has no absolute positions, the network has them")
    tensors, width, head_dim = network.tensors, largest.embed_dim, theirs.head_dims[0]
    channels = in_order(order, _of_channels(tensors), width)
    arranged = {
        "cls_token": tensors["cls_token"][..., channels],
        "pos_embed": tensors["pos_embed"][..., channels],
        "patch_embed_super.proj.weight": tensors["patch_embed.proj.weight"][channels],
        "patch_embed_super.proj.bias": tensors["patch_embed.proj.bias"][channels],
        "norm.weight": tensors["norm.weight"][channels],
        "norm.bias": tensors["norm.bias"][channels],
    }
    if "head.weight" in tensors:
        arranged["head.weight"] = tensors["head.weight"][:, channels]
        arranged["head.bias"] = tensors["head.bias"]
    for i, block in enumerate(blocks):
        own = {
            name.removeprefix(f"blocks.{block}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"blocks.{block}.")
        }
        qkv, proj = own["attn.qkv.weight"], own["attn.proj.weight"]
        # Heads x rows of queries, keys and values of a head.
        by_head = qkv.unflatten(0, (3, -1, head_dim)).transpose(0, 1).flatten(1, 2)
        written = proj.T.unflatten(0, (-1, head_dim))
        heads = in_order(order, (by_head, written), largest.inner_dim[i] // head_dim)
        hidden = own["mlp.fc1.weight"], own["mlp.fc2.weight"].T
        units = in_order(order, hidden, largest.hidden_dim[i])
        # Rows of the heads, one after the other.
        inner = (heads[:, None] * head_dim + torch.arange(head_dim)).flatten()
        # Query, key and value of a row follow each other in the supernet.
        rows = (inner[:, None] + torch.arange(3) * (len(qkv) // 3)).flatten()
        arranged |= {
            f"blocks.{i}.{name}": tensor
            for name, tensor in {
                "attn.qkv.weight": qkv[rows][:, channels],
                "attn.qkv.bias": own["attn.qkv.bias"][rows],
                "attn.proj.weight": proj[channels][:, inner],
                "attn.proj.bias": own["attn.proj.bias"][channels],
                "fc1.weight": own["mlp.fc1.weight"][units][:, channels],
                "fc1.bias": own["mlp.fc1.bias"][units],
                "fc2.weight": own["mlp.fc2.weight"][channels][:, units],
                "fc2.bias": own["mlp.fc2.bias"][channels],
                "attn_layer_norm.weight": own["norm1.weight"][channels],
                "attn_layer_norm.bias": own["norm1.bias"][channels],
                "ffn_layer_norm.weight": own["norm2.weight"][channels],
                "ffn_layer_norm.bias": own["norm2.bias"][channels],
            }.items()
        }
    tables = {name: shape for name, shape in shapes.items() if ".rel_pos_embed_" in name}
    return arranged | {name: torch.zeros(shape) for name, shape in tables.items()}


def _of_channels(tensors: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Yield all weights that write to the channels of the residual stream or read from them."""
    for name, tensor in tensors.items():
        if name.endswith(("qkv.weight", "fc1.weight", "head.weight")):
            yield tensor.T
        elif name in ("cls_token", "pos_embed"):
            yield tensor[0].T
        elif name.endswith(("patch_embed.proj.weight", "attn.proj.weight", "fc2.weight")):
            yield tensor
