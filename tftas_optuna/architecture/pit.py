"""PiT architectures: stages of equal blocks with convolutions between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from tftas_optuna._given import whole
from tftas_optuna.architecture._base import Architecture, Costs
from tftas_optuna.architecture.checks import as_tuple, check_int, check_ratio
from tftas_optuna.errors import TftasError

_MAX_BASE_DIM = 1024
_MAX_STAGES = 8
_MAX_DEPTH = 64
_MAX_HEADS = 256
_KERNEL = 3


@dataclasses.dataclass(frozen=True, repr=False)
class PiTArchitecture(Architecture):
    """A Pooling-based Vision Transformer: each stage halves the grid and may add heads.

    Source: Heo et al., Rethinking Spatial Dimensions of Vision Transformers, ICCV 2021. Every
    head is ``base_dim`` wide, so a stage is ``base_dim * num_heads`` wide.

    Attributes:
        base_dim: Width of one attention head in all stages.
        depth: Number of blocks of each stage.
        num_heads: Number of heads of each stage, a multiple of that of the stage before, because
            the convolutions between stages are depthwise.
        mlp_ratio: Hidden width of every MLP over the width of its stage.
        patch_size: Side of a patch, in pixels.
        stride: Pixels from one patch to the next.

    Raises:
        TftasError: A value has the wrong type or is out of range.
    """

    family: ClassVar[str] = "pit"
    retrain_keys: ClassVar[Mapping[str, str]] = {
        "base_dim": "BASE_DIM",
        "depth": "DEPTH",
        "num_heads": "NUM_HEADS",
        "mlp_ratio": "MLP_RATIO",
        "patch_size": "PATCH_SIZE",
    }

    base_dim: int
    depth: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratio: float
    patch_size: int = 16
    stride: int = 8

    def __post_init__(self) -> None:
        check_int("base_dim", self.base_dim, 1, _MAX_BASE_DIM)
        depth = as_tuple("depth", self.depth, per="stage")
        heads = as_tuple("num_heads", self.num_heads, per="stage")
        for value in depth:
            check_int("depth", value, 1, _MAX_DEPTH)
        for value in heads:
            check_int("num_heads", value, 1, _MAX_HEADS)
        if not 1 <= len(depth) <= _MAX_STAGES:
            raise TftasError(f"depth lists {len(depth)} stages, allowed is 1 to {_MAX_STAGES}")
        if len(depth) != len(heads):
            raise TftasError(
                f"depth has {len(depth)} stages and num_heads {len(heads)}: give one of each per"
                " stage"
            )
        if not can_follow(heads):
            raise TftasError(
                f"num_heads is {list(heads)}: each stage needs a multiple of the heads before it"
            )
        check_ratio("mlp_ratio", self.mlp_ratio, self.base_dim)
        object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "num_heads", heads)
        object.__setattr__(self, "mlp_ratio", float(self.mlp_ratio))
        check_int("patch_size", self.patch_size, 1, 1024)
        check_int("stride", self.stride, 1, self.patch_size)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of the tokens in each stage."""
        return tuple(self.base_dim * heads for heads in self.num_heads)

    @property
    def hidden_dims(self) -> tuple[int, ...]:
        """Hidden width of the MLPs in each stage."""
        return tuple(int(width * self.mlp_ratio) for width in self.widths)

    def grids(self, img_size: int) -> tuple[int, ...]:
        """Return the number of patches along one side of a square image in each stage."""
        img_size = whole("img_size", img_size)
        if img_size < self.patch_size:
            raise TftasError(
                f"img_size {img_size} is smaller than one patch of {self.patch_size} pixels",
                key=("img_size",),
            )
        sides = [(img_size - self.patch_size) // self.stride + 1]
        while len(sides) < len(self.depth):
            sides.append((sides[-1] - 1) // 2 + 1)
        return tuple(sides)

    def costs(self, *, img_size: int, num_classes: int, in_chans: int = 3) -> Costs:
        """Count parameters and MACs in closed form; see :meth:`Architecture.costs`.

        The PiT paper's 0.7, 1.4 and 2.9 G (Ti, XS, S) are counted in the same way.
        """
        grids, widths = self.grids(img_size), self.widths
        num_classes = whole("num_classes", num_classes, 0)
        pixels = in_chans * self.patch_size**2
        n_params = widths[0] * (pixels + 1 + grids[0] ** 2 + 1)
        macs = grids[0] ** 2 * widths[0] * pixels
        before = widths[0]
        for i, (side, width, hidden) in enumerate(
            zip(grids, widths, self.hidden_dims, strict=True)
        ):
            if i > 0:
                n_params += width * (_KERNEL**2 + 1) + width * (before + 1)
                macs += side**2 * width * _KERNEL**2 + before * width
            tokens = side**2 + 1
            block = 4 * width + 4 * width * (width + 1)
            block += hidden * (width + 1) + width * (hidden + 1)
            n_params += self.depth[i] * block
            products = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
            macs += self.depth[i] * products
            before = width
        n_params += 2 * before + num_classes * (before + 1)
        macs += before * num_classes
        return Costs(n_params, macs)

    def beyond_timm(self) -> None:
        """Return None: every PiT is timm's ``PoolingVisionTransformer``."""
        return None

    def to_retrain(self) -> dict[str, Any]:
        """Return the ``RETRAIN`` section of TF-TAS's training configurations, with list values.

        Raises:
            TftasError: The stride is not half a patch, and the format has no key for it.
        """
        if self.stride * 2 != self.patch_size:
            raise TftasError(
                f"the retrain format has no stride: patches of {self.patch_size} pixels are"
                f" {self.patch_size / 2:g} apart there, here {self.stride}"
            )
        return {
            "PATCH_SIZE": [self.patch_size],
            "MLP_RATIO": [self.mlp_ratio],
            "NUM_HEADS": list(self.num_heads),
            "DEPTH": list(self.depth),
            "BASE_DIM": [self.base_dim] * len(self.depth),
        }

    def summary(self) -> str:
        """Return the sizes of the stages: ``80-160-320 x 2-4-4, 2-4-8 heads, ratio 2``."""
        widths, depth, heads = (
            "-".join(map(str, values)) for values in (self.widths, self.depth, self.num_heads)
        )
        return f"{widths} x {depth}, {heads} heads, ratio {self.mlp_ratio:g}"

    @classmethod
    def from_retrain(cls, section: Mapping[str, Any]) -> PiTArchitecture:
        """Read a ``RETRAIN`` section; the stride is half a patch."""
        fields = {name: section[key] for name, key in cls.retrain_keys.items()}
        for name in ("base_dim", "mlp_ratio", "patch_size"):
            values = set(as_tuple(cls.retrain_keys[name], fields[name], per="stage"))
            if len(values) != 1:
                raise TftasError(f"{cls.retrain_keys[name]} is {fields[name]}, expected one value")
            fields[name] = values.pop()
        check_int("PATCH_SIZE", fields["patch_size"], 2, 1024)
        return cls(**fields, stride=fields["patch_size"] // 2)


def can_follow(num_heads: tuple[int, ...]) -> bool:
    """Return whether the heads of every stage are a multiple of those of the stage before."""
    return all(
        after % before == 0 for before, after in zip(num_heads, num_heads[1:], strict=False)
    )
