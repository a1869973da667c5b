"""DSS as the paper words it: slow, in float64, and sharing no code with the package.

The network is written out from the supernet's signed weights, with the relative embedding of
every pair of tokens spelled out; gradients of the weights come from autograd, nuclear norms from
full singular value decompositions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tftas_optuna.architecture import AutoFormerArchitecture


def dss(arch: AutoFormerArchitecture, signed: Mapping[str, Tensor], img_size: int) -> float:
    weights = {name: weight.double().abs() for name, weight in signed.items()}
    counted = {"msa": [], "mlp": []}

    def cut(name: str, *index: slice | Tensor, count: str | None = None) -> Tensor:
        piece = weights[name][index].clone().requires_grad_(count is not None)
        if count is not None:
            counted[count].append(piece)
        return piece

    e, hd = arch.embed_dim, arch.head_dim
    patches = F.conv2d(
        torch.ones(1, 3, img_size, img_size, dtype=torch.float64),
        cut("patch_embed_super.proj.weight", slice(e)),
        cut("patch_embed_super.proj.bias", slice(e)),
        stride=arch.patch_size,
    )
    side = patches.shape[-1]
    x = torch.cat([weights["cls_token"][0, :, :e], patches.flatten(2)[0].T])
    x = x + weights["pos_embed"][0, :, :e]
    n = len(x)

    place = torch.arange(n - 1)
    reach = arch.max_relative_position
    rows = ((place // side)[None] - (place // side)[:, None]).clamp(-reach, reach) + reach + 1
    columns = ((place % side)[None] - (place % side)[:, None]).clamp(-reach, reach) + reach + 1
    rows, columns = F.pad(rows, (1, 0, 1, 0)), F.pad(columns, (1, 0, 1, 0))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            x, (e,), cut(f"{name}.weight", slice(e)), cut(f"{name}.bias", slice(e))
        )

    for i, (heads, ratio) in enumerate(zip(arch.num_heads, arch.mlp_ratio, strict=True)):
        block, inner, hidden = f"blocks.{i}", heads * hd, int(e * ratio)
        order = torch.cat([torch.arange(part, 3 * inner, 3) for part in range(3)])
        qkv = cut(f"{block}.attn.qkv.weight", order, slice(e), count="msa")
        bias = cut(f"{block}.attn.qkv.bias", slice(3 * inner))
        y = F.linear(norm(x, f"{block}.attn_layer_norm"), qkv, bias)
        q, k, v = y.reshape(n, 3, heads, hd).permute(1, 2, 0, 3)
        logits = q @ k.transpose(1, 2)
        table = f"{block}.attn.rel_pos_embed_"
        pairs_k = weights[table + "k.embeddings_table_v"][rows]
        pairs_k = pairs_k + weights[table + "k.embeddings_table_h"][columns]
        logits = (logits + torch.einsum("hid,ijd->hij", q, pairs_k)) / hd**0.5
        attention = torch.softmax(logits, dim=-1)
        pairs_v = weights[table + "v.embeddings_table_v"][rows]
        pairs_v = pairs_v + weights[table + "v.embeddings_table_h"][columns]
        out = attention @ v + torch.einsum("hij,ijd->hid", attention, pairs_v)
        proj = cut(f"{block}.attn.proj.weight", slice(e), slice(inner), count="msa")
        out = out.transpose(0, 1).reshape(n, inner)
        x = x + F.linear(out, proj, cut(f"{block}.attn.proj.bias", slice(e)))
        fc1 = cut(f"{block}.fc1.weight", slice(hidden), slice(e), count="mlp")
        fc2 = cut(f"{block}.fc2.weight", slice(e), slice(hidden), count="mlp")
        h = F.linear(
            norm(x, f"{block}.ffn_layer_norm"), fc1, cut(f"{block}.fc1.bias", slice(hidden))
        )
        x = x + F.linear(F.gelu(h), fc2, cut(f"{block}.fc2.bias", slice(e)))

    head = cut("head.weight", slice(None), slice(e), count="mlp")
    logits = F.linear(norm(x, "norm")[1:].mean(0), head, weights["head.bias"])
    logits.sum().backward()

    total = 0.0
    for weight in counted["msa"]:
        total += float(nuclear(weight.grad) * nuclear(weight.detach()))
    for weight in counted["mlp"]:
        total += float((weight.grad * weight.detach()).abs().sum())
    return total


def nuclear(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix).sum()
