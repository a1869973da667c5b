"""AutoFormer architectures: one width, and blocks that differ in heads and MLP ratio."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from tftas_optuna._given import whole
from tftas_optuna.architecture._base import Architecture, Costs, read_fields
from tftas_optuna.architecture.blocks import BlockKind
from tftas_optuna.architecture.checks import as_tuple, check_int, check_ratio, shown
from tftas_optuna.errors import TftasError

_LAYER_NORM_EPS = 1e-5
_TIMM_EPS = 1e-6
# Far larger than any Vision Transformer, but small enough that no file can ask for terabytes.
_MAX_EMBED_DIM = 16_384
_MAX_DEPTH = 256
_MAX_HEADS = 256
_MAX_EPS = 0.1


@dataclasses.dataclass(frozen=True, repr=False)
class AutoFormerArchitecture(Architecture):
    """A Vision Transformer whose heads and MLP ratio differ from block to block.

    Source: Chen et al., AutoFormer, ICCV 2021. Every head is ``head_dim`` wide, so the attention
    width ``head_dim * num_heads`` may differ from ``embed_dim``. Without a ``head_dim`` the heads
    of a block share ``embed_dim``, as in ViT and DeiT.

    Attributes:
        embed_dim: Width of the tokens.
        num_heads: Number of heads of each block; its length is the depth.
        mlp_ratio: Hidden width of each block's MLP over ``embed_dim``.
        head_dim: Width of one attention head; None for ``embed_dim / num_heads``.
        patch_size: Side of a patch, in pixels.
        relative_position: Whether keys and values have 2-D relative position embeddings.
        max_relative_position: Largest offset between patches that has its own embedding.
        abs_pos: Whether tokens have absolute position embeddings.
        global_pool: ``"avg"`` (mean of the patch tokens) or ``"token"`` (class token).
        layer_norm_eps: What layer norms add to the variance: 1e-5 in AutoFormer, 1e-6 in timm's
            Vision Transformers.

    Raises:
        TftasError: A value has the wrong type or is out of range.
    """

    family: ClassVar[str] = "autoformer"
    retrain_keys: ClassVar[Mapping[str, str]] = {
        "embed_dim": "EMBED_DIM",
        "depth": "DEPTH",
        "num_heads": "NUM_HEADS",
        "mlp_ratio": "MLP_RATIO",
    }

    embed_dim: int
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]
    head_dim: int | None = 64
    patch_size: int = 16
    relative_position: bool = True
    max_relative_position: int = 14
    abs_pos: bool = True
    global_pool: str = "avg"
    layer_norm_eps: float = _LAYER_NORM_EPS

    def __post_init__(self) -> None:
        check_int("embed_dim", self.embed_dim, 1, _MAX_EMBED_DIM)
        heads = as_tuple("num_heads", self.num_heads, per="block")
        ratios = as_tuple("mlp_ratio", self.mlp_ratio, per="block")
        for value in heads:
            check_int("num_heads", value, 1, _MAX_HEADS)
        for value in ratios:
            check_ratio("mlp_ratio", value, self.embed_dim)
        if not 1 <= len(heads) <= _MAX_DEPTH:
            raise TftasError(f"depth is {len(heads)}, allowed is 1 to {_MAX_DEPTH} blocks")
        if len(heads) != len(ratios):
            raise TftasError(
                f"num_heads has {len(heads)} blocks and mlp_ratio {len(ratios)}: give one of"
                " each per block"
            )
        object.__setattr__(self, "num_heads", heads)
        object.__setattr__(self, "mlp_ratio", tuple(float(value) for value in ratios))
        if self.head_dim is not None:
            check_int("head_dim", self.head_dim, 1, 1024)
        elif any(self.embed_dim % value for value in heads):
            raise TftasError(
                f"embed_dim {self.embed_dim} cannot be split into"
                f" {next(value for value in heads if self.embed_dim % value)} heads of equal"
                " width; give a head_dim",
                key=("embed_dim",),
            )
        check_int("patch_size", self.patch_size, 1, 1024)
        check_int("max_relative_position", self.max_relative_position, 1, 1024)
        for name in ("relative_position", "abs_pos"):
            if not isinstance(getattr(self, name), bool):
                raise TftasError(
                    f"{name} is {shown(getattr(self, name))}, allowed: true, false", key=(name,)
                )
        if self.global_pool not in ("avg", "token"):
            raise TftasError(
                f"global_pool is {shown(self.global_pool)}, allowed: avg, token",
                key=("global_pool",),
            )
        eps: Any = self.layer_norm_eps
        if not isinstance(eps, float) or not 0 < eps <= _MAX_EPS:
            raise TftasError(
                f"layer_norm_eps is {shown(eps)}, allowed is a number above 0 up to {_MAX_EPS},"
                " such as 1.0e-6",
                key=("layer_norm_eps",),
            )

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.num_heads)

    @cached_property
    def hidden_dim(self) -> tuple[int, ...]:
        """Hidden width of each block's MLP."""
        return tuple(int(self.embed_dim * ratio) for ratio in self.mlp_ratio)

    @cached_property
    def head_dims(self) -> tuple[int, ...]:
        """Width of one head in each block."""
        return tuple(self.head_dim or self.embed_dim // heads for heads in self.num_heads)

    @cached_property
    def inner_dim(self) -> tuple[int, ...]:
        """Width of each block's attention: all its heads together."""
        return tuple(h * d for h, d in zip(self.num_heads, self.head_dims, strict=True))

    def grid(self, img_size: int) -> int:
        """Return the number of patches along one side of a square image."""
        img_size = whole("img_size", img_size)
        if img_size < self.patch_size:
            raise TftasError(
                f"img_size {img_size} is smaller than one patch of {self.patch_size} pixels",
                key=("img_size",),
            )
        return img_size // self.patch_size

    def costs(self, *, img_size: int, num_classes: int, in_chans: int = 3) -> Costs:
        """Count parameters and MACs in closed form; see :meth:`Architecture.costs`.

        Relative positions count as the factorised products that the network computes: each query
        with the rows and the columns of the grid, and the same for the values.
        """
        grid = self.grid(img_size)
        num_classes = whole("num_classes", num_classes, 0)
        patches, width = grid * grid, self.embed_dim
        tokens = patches + 1
        pixels = in_chans * self.patch_size**2

        n_params = width * (pixels + 1) + width + 2 * width + num_classes * (width + 1)
        n_params += tokens * width if self.abs_pos else 0
        macs = patches * pixels * width + width * num_classes
        rows = 4 * (2 * self.max_relative_position + 2)
        for inner, head_dim, hidden in zip(
            self.inner_dim, self.head_dims, self.hidden_dim, strict=True
        ):
            n_params += 4 * width + 3 * inner * (width + 1) + width * (inner + 1)
            n_params += hidden * (width + 1) + width * (hidden + 1)
            macs += tokens * (4 * inner * width + 2 * width * hidden) + 2 * tokens**2 * inner
            if self.relative_position:
                n_params += rows * head_dim
                macs += 4 * patches * grid * inner + tokens * inner
        return Costs(n_params, macs)

    def reference_macs(self, *, img_size: int, num_classes: int) -> float:
        """Count multiply-accumulates as ``get_complexity`` of the AutoFormer code does.

        That convention adds normalisation and biases, counts one token too many in every block,
        counts the classifier for every token, and estimates relative positions by its own formula
        (1.42 G for the published TF-TAS-Tiny, which the paper gives as 1.43 G).
        """
        patches = self.grid(img_size) ** 2
        width, tokens = self.embed_dim, patches + 2
        total = width + patches * width * 3 * self.patch_size**2 + (patches + 1) * width / 2
        total += (patches + 1) * width * num_classes
        for inner, hidden in zip(self.inner_dim, self.hidden_dim, strict=True):
            total += 2 * tokens * width + tokens * (4 * inner * width + 2 * width * hidden)
            total += 2 * tokens**2 * inner
            if self.relative_position:
                total += 2 * self.max_relative_position * tokens**2
                total += tokens**2 / 2 + tokens * inner / 2
        return total

    def block_kinds(self) -> list[BlockKind]:
        """Return the kind of every block, from the first to the last."""
        return [
            BlockKind(self.embed_dim, heads, ratio)
            for heads, ratio in zip(self.num_heads, self.mlp_ratio, strict=True)
        ]

    def with_blocks(self, kind: BlockKind, depth: int) -> AutoFormerArchitecture:
        """Return an architecture like this one with ``depth`` blocks of one kind."""
        return dataclasses.replace(
            self,
            embed_dim=kind.width,
            num_heads=(kind.num_heads,) * depth,
            mlp_ratio=(kind.mlp_ratio,) * depth,
        )

    def beyond_timm(self) -> str | None:
        """Return what timm's ``VisionTransformer`` does not have, None if it is one."""
        if self.relative_position:
            return "relative positions"
        if len({*self.num_heads}) > 1 or len({*self.mlp_ratio}) > 1:
            return "blocks that differ"
        if self.inner_dim[0] != self.embed_dim:
            return f"an attention of {self.inner_dim[0]} in a width of {self.embed_dim}"
        if self.layer_norm_eps != _TIMM_EPS:
            return f"a layer_norm_eps of {self.layer_norm_eps:g}, not {_TIMM_EPS:g}"
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, and the depth for readability.

        AutoFormer's epsilon is left out, as releases before 0.3 knew no other.
        """
        fields = super().to_dict()
        if self.layer_norm_eps == _LAYER_NORM_EPS:
            del fields["layer_norm_eps"]
        first = {name: fields.pop(name) for name in ("family", "embed_dim")}
        return {**first, "depth": self.depth, **fields}

    def summary(self) -> str:
        """Return width, depth, mean heads and mean ratio: ``192 x 13, 3.4 heads, ratio 3.73``."""
        heads = sum(self.num_heads) / self.depth
        ratio = sum(self.mlp_ratio) / self.depth
        return f"{self.embed_dim} x {self.depth}, {heads:.1f} heads, ratio {ratio:.2f}"

    def to_retrain(self) -> dict[str, Any]:
        """Return the ``RETRAIN`` section of AutoFormer's training configurations.

        Raises:
            TftasError: A field that the format cannot express differs from its default.
        """
        default = AutoFormerArchitecture(self.embed_dim, self.num_heads, self.mlp_ratio)
        names = [field.name for field in dataclasses.fields(self)]
        lost = [name for name in names if getattr(self, name) != getattr(default, name)]
        if lost:
            raise TftasError(
                f"the retrain format has no {lost[0]}: {shown(getattr(self, lost[0]))} would"
                f" become {shown(getattr(default, lost[0]))}"
            )
        return {
            "MLP_RATIO": list(self.mlp_ratio),
            "NUM_HEADS": list(self.num_heads),
            "DEPTH": self.depth,
            "EMBED_DIM": self.embed_dim,
        }

    @classmethod
    def from_retrain(cls, section: Mapping[str, Any]) -> AutoFormerArchitecture:
        """Read a ``RETRAIN`` section; all other fields have their defaults."""
        return cls.from_fields({name: section[key] for name, key in cls.retrain_keys.items()})

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> AutoFormerArchitecture:
        """Read the fields that :meth:`to_dict` returned; the depth may be left out."""
        depth = fields.pop("depth", None)
        architecture = cls(**read_fields(cls, fields, extra=("depth",)))
        if depth is not None and depth != architecture.depth:
            raise TftasError(
                f"depth is {shown(depth)} but num_heads lists {architecture.depth} blocks"
            )
        return architecture


def offset_rows(side: int, max_distance: int) -> list[list[int]]:
    """Return the row of a relative position table for every pair of patches along one side.

    Row 0 is for pairs with the class token; the other rows are for the offsets from
    ``-max_distance`` to ``max_distance``, and larger offsets are clipped.

    Returns:
        Rows by query and key.
    """
    return [
        [
            min(max(key - query, -max_distance), max_distance) + max_distance + 1
            for key in range(side)
        ]
        for query in range(side)
    ]
