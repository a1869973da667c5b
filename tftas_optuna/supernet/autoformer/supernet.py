"""The AutoFormer supernet: shared weights, and the slices that a candidate uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tftas_optuna.errors import TftasError
from tftas_optuna.supernet._base import Supernet
from tftas_optuna.supernet.autoformer.arranging import arrange
from tftas_optuna.supernet.autoformer.batch import Batch, Frame, sizes_of
from tftas_optuna.supernet.autoformer.passes import (
    AutoFormerPass,
    AutoFormerWeights,
    BlockNorms,
    shapes_of,
)
from tftas_optuna.supernet.autoformer.positions import CollapsedPositions, GridPositions, Positions
from tftas_optuna.supernet.linear import LinearStack
from tftas_optuna.supernet.replay import FixedPass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tftas_optuna.architecture import AutoFormerArchitecture
    from tftas_optuna.supernet.arranging import LargerWeights
    from tftas_optuna.supernet.trace import LinearTrace


POSITIONS: dict[str, Callable[[int, int, torch.device], Positions]] = {
    "exact": GridPositions,
    "collapsed": CollapsedPositions,
}


# Largest number of candidates for which a CPU is faster with one mixed group than with one group
# per width. A GPU always is, because it waits for the launch of every operation.
MIXED_ON_CPU = 64
# Largest number of candidates for which a CPU is faster if it folds several blocks at once.
STACKED_ON_CPU = 64


class AutoFormerSupernet(Supernet["AutoFormerArchitecture"]):
    """One set of weights that every candidate of a study is cut from.

    Weights have the names and the layout of AutoFormer's published supernets, which load
    unchanged. The rows of ``qkv.weight`` are interleaved: rows 0, 3, 6, ... are queries,
    1, 4, 7, ... keys and 2, 5, 8, ... values, each cut to ``64 * num_heads``. AutoFormer's bias
    is not interleaved: it holds queries, keys and values in this order, and is cut as one vector.
    With ``Slicing(qkv_bias="rows")`` it is interleaved too. Where heads share the width, the
    layout is the same, and a candidate's attention is as wide as its tokens.
    """

    fidelities = tuple(POSITIONS)
    traits = ("head_dim", "patch_size", "relative_position", "abs_pos", "layer_norm_eps")

    def __init__(self, largest: AutoFormerArchitecture, **arguments: Any) -> None:
        super().__init__(largest, **arguments)
        self._prepared: dict[str, tuple[Positions, AutoFormerWeights, Tensor]] = {}

    def limits(
        self, arch: AutoFormerArchitecture
    ) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
        largest = self.largest
        if arch.relative_position and arch.max_relative_position != largest.max_relative_position:
            raise TftasError(
                f"max_relative_position is {arch.max_relative_position}, the supernet has"
                f" {largest.max_relative_position}"
            )
        return {
            "embed_dim": ([arch.embed_dim], [largest.embed_dim]),
            "depth": ([arch.depth], [largest.depth]),
            "num_heads": ([max(arch.num_heads)], [min(largest.num_heads)]),
            "hidden width": ([max(arch.hidden_dim)], [min(largest.hidden_dim)]),
        }

    def depths(self, arch: AutoFormerArchitecture) -> dict[str, int]:
        return {"blocks": arch.depth}

    def shallower(self, arch: AutoFormerArchitecture) -> AutoFormerArchitecture:
        heads, ratios = self.largest.num_heads[: arch.depth], self.largest.mlp_ratio[: arch.depth]
        return dataclasses.replace(self.largest, num_heads=heads, mlp_ratio=ratios)

    @staticmethod
    def groups(
        archs: Sequence[AutoFormerArchitecture], device_type: str = "cpu"
    ) -> list[list[int]]:
        """Group candidates that run in one pass, as lists of indices, deepest first.

        A group has one width. Candidates with heads of one width form a single group of mixed
        widths (on a CPU only if they are few), because reading the weights once then saves more
        time than padding the narrow ones costs.
        """
        few = device_type != "cpu" or len(archs) <= MIXED_ON_CPU
        mixed = few and all(arch.head_dim is not None for arch in archs)
        groups: dict[int, list[int]] = {}
        for i in sorted(range(len(archs)), key=lambda i: -archs[i].depth):
            groups.setdefault(0 if mixed else archs[i].embed_dim, []).append(i)
        return list(groups.values())

    def traces(
        self, archs: Sequence[AutoFormerArchitecture], fidelity: str
    ) -> Iterator[LinearTrace]:
        frame = Frame.around(archs, stacked=self._is_stacked(fidelity, len(archs)))
        sizes = torch.tensor(sizes_of(archs, frame.depth), device=self.device)
        traces = self._pass(frame, fidelity)(sizes)
        return (trace._replace(shapes=shapes_of(archs, trace)) for trace in traces)

    def _fixed_pass(
        self, archs: Sequence[AutoFormerArchitecture], fidelity: str
    ) -> FixedPass | None:
        if self.largest.head_dim is None:
            return None  # heads of every width would have a shape of their own
        frame = Frame.whole(self.largest, len(archs))
        run = self._pass(frame, fidelity)
        return FixedPass(
            frame,
            torch.tensor(sizes_of(archs, frame.depth)),
            lambda sizes: list(run(sizes)),
            partial(shapes_of, archs),
        )

    def _pass(self, frame: Frame, fidelity: str) -> Callable[[Tensor], Iterator[LinearTrace]]:
        """Return the function that runs candidates from their sizes."""
        positions, weights, tokens = self._prepare(fidelity)

        def run(sizes: Tensor) -> Iterator[LinearTrace]:
            batch = Batch(frame, sizes, self.dtype)
            return AutoFormerPass(weights, self.largest, positions, batch).run(tokens)

        return run

    def _is_stacked(self, fidelity: str, count: int) -> bool:
        """Return whether the layers of several blocks are folded together."""
        if self.device.type != "cpu":
            return True
        return fidelity == "collapsed" and count <= STACKED_ON_CPU

    def pass_bytes(self, fidelity: str) -> int:
        """Estimate the memory that one candidate takes in :meth:`run`, in bytes."""
        largest = self.largest
        tokens = 2 if fidelity == "collapsed" else largest.grid(self.img_size) ** 2 + 1
        kept = 0
        for heads, inner, hidden in zip(
            largest.num_heads, largest.inner_dim, largest.hidden_dim, strict=True
        ):
            kept += tokens * (4 * largest.embed_dim + 5 * inner + 2 * hidden + heads * tokens)
            if self._is_stacked(fidelity, 1):
                kept += tokens * (2 * largest.embed_dim + 3 * inner + hidden)
        # Plus one gradient of the largest matrix, which is not kept for the backward pass.
        temporary = 2 * largest.embed_dim * max(largest.hidden_dim) if tokens > 2 else 0
        return (kept + temporary) * self.dtype.itemsize

    def _prepare(self, fidelity: str) -> tuple[Positions, AutoFormerWeights, Tensor]:
        """Return the positions, weights and embedded tokens for a fidelity; arrange them once."""
        if fidelity not in self._prepared:
            largest = self.largest
            positions = POSITIONS[fidelity](
                largest.grid(self.img_size), largest.max_relative_position, self.device
            )
            with torch.inference_mode(False):
                blocks = [
                    norms._replace(embeddings=self._embeddings(i, positions))
                    for i, norms in enumerate(self._weights.blocks)
                ]
                tokens = positions.embed(self._embed_ones())
            self._prepared[fidelity] = positions, self._weights._replace(blocks=blocks), tokens
        return self._prepared[fidelity]

    @cached_property
    def _weights(self) -> AutoFormerWeights:
        """The weights without position embeddings, shared by the passes of all fidelities."""
        get = self.absolute_of
        blocks = [f"blocks.{i}" for i in range(self.largest.depth)]
        norms = {
            f"{block}.{norm}": (get(f"{block}.{norm}.weight"), get(f"{block}.{norm}.bias"))
            for block in blocks
            for norm in ("attn_layer_norm", "ffn_layer_norm")
        }
        plain = {name: _is_plain(norm) for name, norm in norms.items()}
        # No candidate uses more of a block than the smallest block has.
        inner, hidden = min(self.largest.inner_dim), min(self.largest.hidden_dim)
        cuts = {"attn.qkv": (3 * inner, None), "attn.proj": (None, inner)}
        cuts |= {"fc1": (hidden, None), "fc2": (None, hidden)}

        def stack(name: str, norm: str | None) -> LinearStack:
            out, into = cuts[name]

            def weight(i: int) -> Tensor:
                whole = get(f"{blocks[i]}.{name}.weight")
                if name == "attn.qkv" and self.largest.head_dim is not None:
                    whole = _by_head(whole, self.largest.head_dim)
                return whole[:out, :into]

            def bias(i: int) -> Tensor:
                whole = get(f"{blocks[i]}.{name}.bias")
                if name == "attn.qkv" and by_rows and self.largest.head_dim is not None:
                    whole = _by_head(whole[:, None], self.largest.head_dim)[:, 0]
                return whole

            return LinearStack(
                weight,
                [bias(i) for i in range(len(blocks))],
                mean_matters=norm is not None
                and not all(plain[f"{block}.{norm}"] for block in blocks),
            )

        by_rows = self.slicing.qkv_bias == "rows"
        final = get("norm.weight"), get("norm.bias")
        return AutoFormerWeights(
            linears={
                "attn.qkv": stack("attn.qkv", "attn_layer_norm"),
                "attn.proj": stack("attn.proj", None),
                "mlp.fc1": stack("fc1", "ffn_layer_norm"),
                "mlp.fc2": stack("fc2", None),
            },
            blocks=[
                BlockNorms(
                    norms[f"{block}.attn_layer_norm"], norms[f"{block}.ffn_layer_norm"], None
                )
                for block in blocks
            ],
            norm=final,
            head=get("head.weight"),
            plain_norms=all(plain.values()) and _is_plain(final),
            bias_by_rows=by_rows,
        )

    def _embeddings(self, i: int, positions: Positions) -> tuple[Tensor, Tensor] | None:
        if not self.largest.relative_position:
            return None
        keys, values = (
            positions.embeddings(
                *(
                    self.absolute_of(f"blocks.{i}.attn.rel_pos_embed_{kind}.embeddings_table_{a}")
                    for a in "vh"
                )
            )
            for kind in "kv"
        )
        return keys, values

    def _embed_ones(self) -> Tensor:
        """Embed the all-ones image at full width, shape (1 + patches, embed_dim)."""
        get = self.absolute_of
        # Every patch of an all-ones image embeds to the same vector: the sum of each filter.
        patch = get("patch_embed_super.proj.weight").sum((1, 2, 3))
        patch = patch + get("patch_embed_super.proj.bias")
        patches = self.largest.grid(self.img_size) ** 2
        tokens = torch.cat((get("cls_token")[0], patch.expand(patches, -1)))
        return tokens + get("pos_embed")[0] if self.largest.abs_pos else tokens

    def slices(
        self, arch: AutoFormerArchitecture, source: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        width = arch.embed_dim
        slices = {
            "cls_token": source["cls_token"][..., :width],
            "patch_embed.proj.weight": source["patch_embed_super.proj.weight"][:width],
            "patch_embed.proj.bias": source["patch_embed_super.proj.bias"][:width],
            "norm.weight": source["norm.weight"][:width],
            "norm.bias": source["norm.bias"][:width],
            "head.weight": source["head.weight"][:, :width],
            "head.bias": source["head.bias"],
        }
        if arch.abs_pos:
            slices["pos_embed"] = source["pos_embed"][..., :width]
        for i, (inner, head_dim, hidden) in enumerate(
            zip(arch.inner_dim, arch.head_dims, arch.hidden_dim, strict=True)
        ):
            block = f"blocks.{i}"
            qkv = source[f"{block}.attn.qkv.weight"][: 3 * inner, :width]
            rows = {
                "attn.qkv.weight": torch.cat([qkv[part::3] for part in range(3)]),
                "attn.qkv.bias": self._split(source[f"{block}.attn.qkv.bias"][: 3 * inner]),
                "attn.proj.weight": source[f"{block}.attn.proj.weight"][:width, :inner],
                "attn.proj.bias": source[f"{block}.attn.proj.bias"][:width],
                "mlp.fc1.weight": source[f"{block}.fc1.weight"][:hidden, :width],
                "mlp.fc1.bias": source[f"{block}.fc1.bias"][:hidden],
                "mlp.fc2.weight": source[f"{block}.fc2.weight"][:width, :hidden],
                "mlp.fc2.bias": source[f"{block}.fc2.bias"][:width],
            }
            for name, shared in (("norm1", "attn_layer_norm"), ("norm2", "ffn_layer_norm")):
                rows[f"{name}.weight"] = source[f"{block}.{shared}.weight"][:width]
                rows[f"{name}.bias"] = source[f"{block}.{shared}.bias"][:width]
            if arch.relative_position:
                for name, kind in (("relative_key", "k"), ("relative_value", "v")):
                    table = f"{block}.attn.rel_pos_embed_{kind}.embeddings_table_"
                    rows[f"attn.{name}.vertical"] = source[table + "v"][:, :head_dim]
                    rows[f"attn.{name}.horizontal"] = source[table + "h"][:, :head_dim]
            slices.update({f"{block}.{name}": weight for name, weight in rows.items()})
        return slices

    def arranged(self, network: LargerWeights, order: str) -> dict[str, Tensor]:
        theirs: AutoFormerArchitecture = network.architecture
        heads = {*self.largest.head_dims, *theirs.head_dims}
        if self.largest.head_dim is None or len(heads) > 1:
            raise TftasError(
                f"heads of the network are {theirs.head_dims[0]} wide; give the space head_dim:"
                f" {theirs.head_dims[0]}"
            )
        blocks = self.slicing.taken(self.largest.depth, theirs.depth)
        return arrange(self.largest, network, order, blocks, self.shapes())

    def _split(self, bias: Tensor) -> Tensor:
        """Return the bias of queries, keys and values, one after the other."""
        if self.slicing.qkv_bias == "vector":
            return bias
        return torch.cat([bias[part::3] for part in range(3)])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        largest, width = self.largest, self.largest.embed_dim
        patch = largest.patch_size
        shapes: dict[str, tuple[int, ...]] = {
            "cls_token": (1, 1, width),
            "patch_embed_super.proj.weight": (width, self.in_chans, patch, patch),
            "patch_embed_super.proj.bias": (width,),
            "norm.weight": (width,),
            "norm.bias": (width,),
            "head.weight": (self.num_classes, width),
            "head.bias": (self.num_classes,),
        }
        if largest.abs_pos:
            shapes["pos_embed"] = (1, largest.grid(self.img_size) ** 2 + 1, width)
        for i, (inner, hidden) in enumerate(
            zip(largest.inner_dim, largest.hidden_dim, strict=True)
        ):
            block = f"blocks.{i}"
            for name, out, into in (
                ("attn.qkv", 3 * inner, width),
                ("attn.proj", width, inner),
                ("fc1", hidden, width),
                ("fc2", width, hidden),
            ):
                shapes[f"{block}.{name}.weight"] = (out, into)
                shapes[f"{block}.{name}.bias"] = (out,)
            for name in ("attn_layer_norm", "ffn_layer_norm"):
                shapes[f"{block}.{name}.weight"] = shapes[f"{block}.{name}.bias"] = (width,)
            if largest.relative_position:
                rows = 2 * largest.max_relative_position + 2
                # Wide enough for an attention with a single head.
                head_dim = largest.head_dim or width
                for table in (
                    "k.embeddings_table_v",
                    "k.embeddings_table_h",
                    "v.embeddings_table_v",
                    "v.embeddings_table_h",
                ):
                    shapes[f"{block}.attn.rel_pos_embed_{table}"] = (rows, head_dim)
        return shapes

    def draw(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        if name.startswith("patch_embed_super"):
            # PyTorch's default for convolutions: uniform within 1 / sqrt(fan-in).
            bound = (self.in_chans * self.largest.patch_size**2) ** -0.5
            return weight.uniform_(-bound, bound, generator=generator)
        if name.endswith("bias"):
            return weight.zero_()
        if "norm" in name:
            return weight.fill_(1.0)
        return nn.init.trunc_normal_(weight, std=0.02, generator=generator)


def _is_plain(norm: tuple[Tensor, Tensor]) -> bool:
    """Return whether a normalisation has unit weights and zero biases."""
    weight, bias = norm
    return bool((weight == 1).all() and (bias == 0).all())


def _by_head(qkv: Tensor, head_dim: int) -> Tensor:
    """Reorder interleaved rows to (head, q/k/v, head_dim), so that fewer heads are a prefix."""
    return qkv.view(-1, head_dim, 3, qkv.shape[1]).transpose(1, 2).reshape(qkv.shape).contiguous()
