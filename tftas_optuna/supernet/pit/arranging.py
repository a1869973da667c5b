"""The weights of a Pooling-based Vision Transformer of timm as those of a PiT supernet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tftas_optuna.errors import TftasError
from tftas_optuna.supernet.arranging import check_holds, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from tftas_optuna.architecture import PiTArchitecture
    from tftas_optuna.supernet.arranging import LargerWeights


_NORMS = ("norm1", "norm2")
_PARTS = (*_NORMS, "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def arrange(
    largest: PiTArchitecture,
    network: LargerWeights,
    order: str,
    taken: Callable[[int, int], list[int]],
) -> dict[str, Tensor]:
    """Return the weights of a PiT supernet.

    Args:
        largest: The architecture of the supernet.
        network: The network.
        order: Which channels, heads and hidden units come first. The channels of a stage follow
            those of the stage before, because the convolutions between stages are depthwise.
        taken: Returns the blocks of a stage that the supernet takes, from its depth and that of
            the network.

    Raises:
        TftasError: The supernet does not fit into the network.
    """
    theirs: PiTArchitecture = network.architecture
    _check(largest, theirs)
    tensors = network.tensors
    channels = in_order(order, _of_channels(tensors), largest.widths[0])
    arranged = {
        "cls_token": tensors["cls_token"][..., channels],
        "pos_embed": tensors["pos_embed"][:, channels],
        "patch_embed.conv.weight": tensors["patch_embed.conv.weight"][channels],
        "patch_embed.conv.bias": tensors["patch_embed.conv.bias"][channels],
    }
    for stage, hidden_dim in enumerate(largest.hidden_dims):
        prefix = f"transformers.{stage}"
        if stage > 0:
            before = channels
            channels = _following(channels, stage, largest, theirs)
            for name in ("conv.weight", "conv.bias", "fc.weight", "fc.bias"):
                tensor = tensors[f"{prefix}.pool.{name}"][channels]
                arranged[f"{prefix}.pool.{name}"] = (
                    tensor[:, before] if name == "fc.weight" else tensor
                )
        for i, block in enumerate(taken(largest.depth[stage], theirs.depth[stage])):
            own = {
                name: tensors[f"{prefix}.blocks.{block}.{name}"]
                for name in (f"{part}.{kind}" for part in _PARTS for kind in ("weight", "bias"))
            }
            sizes = largest.num_heads[stage], hidden_dim
            for name, tensor in _block(own, order, channels, theirs.base_dim, sizes).items():
                arranged[f"{prefix}.blocks.{i}.{name}"] = tensor
    arranged |= {name: tensors[name][channels] for name in ("norm.weight", "norm.bias")}
    if "head.weight" in tensors:
        arranged["head.weight"] = tensors["head.weight"][:, channels]
        arranged["head.bias"] = tensors["head.bias"]
    return arranged


def _block(
    own: Mapping[str, Tensor], order: str, channels: Tensor, head_dim: int, sizes: tuple[int, int]
) -> dict[str, Tensor]:
    """Return the weights of a block with so many heads and hidden units."""
    n_heads, hidden_dim = sizes
    qkv, proj = own["attn.qkv.weight"].unflatten(0, (3, -1)), own["attn.proj.weight"]
    by_head = qkv.unflatten(1, (-1, head_dim)).transpose(0, 1).flatten(1, 2)
    heads = in_order(order, (by_head, proj.T.unflatten(0, (-1, head_dim))), n_heads)
    inner = (heads[:, None] * head_dim + torch.arange(head_dim)).flatten()
    hidden = own["mlp.fc1.weight"], own["mlp.fc2.weight"].T
    units = in_order(order, hidden, hidden_dim)
    bias = own["attn.qkv.bias"].unflatten(0, (3, -1))
    return {
        **{f"{n}.{k}": own[f"{n}.{k}"][channels] for n in _NORMS for k in ("weight", "bias")},
        "attn.qkv.weight": qkv[:, inner][..., channels].flatten(0, 1),
        "attn.qkv.bias": bias[:, inner].flatten(),
        "attn.proj.weight": proj[channels][:, inner],
        "attn.proj.bias": own["attn.proj.bias"][channels],
        "mlp.fc1.weight": own["mlp.fc1.weight"][units][:, channels],
        "mlp.fc1.bias": own["mlp.fc1.bias"][units],
        "mlp.fc2.weight": own["mlp.fc2.weight"][channels][:, units],
        "mlp.fc2.bias": own["mlp.fc2.bias"][channels],
    }


def _following(
    channels: Tensor, stage: int, largest: PiTArchitecture, theirs: PiTArchitecture
) -> Tensor:
    """Return the channels of a stage that are convolved from those of the stage before."""
    own, most = (_growth(arch)[stage] for arch in (largest, theirs))
    return (channels[:, None] * most + torch.arange(own)).flatten()


def _growth(arch: PiTArchitecture) -> list[int]:
    """Return the heads of each stage for one of the stage before; all heads of the first one."""
    before = (1, *arch.num_heads[:-1])
    return [heads // previous for heads, previous in zip(arch.num_heads, before, strict=True)]


def _check(largest: PiTArchitecture, theirs: PiTArchitecture) -> None:
    for name in ("base_dim", "patch_size", "stride"):
        own, other = getattr(largest, name), getattr(theirs, name)
        if own != other:
            raise TftasError(f"{name} of the supernet is {own}, the network has {other}")
    if len(largest.depth) != len(theirs.depth):
        raise TftasError(
            f"the supernet has {len(largest.depth)} stages, the network {len(theirs.depth)}"
        )
    check_holds([("mlp_ratio", largest.mlp_ratio, theirs.mlp_ratio)])
    for stage, (own, most) in enumerate(zip(_growth(largest), _growth(theirs), strict=True)):
        check_holds([(f"growth of num_heads in stage {stage}", own, most)])
        depth = largest.depth[stage], theirs.depth[stage]
        check_holds([(f"depth of stage {stage}", *depth)])


def _of_channels(tensors: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Yield all weights of the first stage that write to its channels or read from them."""
    for name, tensor in tensors.items():
        if name.startswith("transformers.0.") and name.endswith(("qkv.weight", "fc1.weight")):
            yield tensor.T
        elif name.startswith("transformers.0.") and name.endswith(("proj.weight", "fc2.weight")):
            yield tensor
        elif name == "patch_embed.conv.weight":
            yield tensor
        elif name == "cls_token":
            yield tensor[0].T
        elif name == "pos_embed":
            yield tensor[0]
