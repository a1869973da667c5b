"""AutoFormer spaces: width and depth once, heads and MLP ratio for every block."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from optuna.distributions import CategoricalDistribution

from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.errors import TftasError
from tftas_optuna.spaces._base import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.architecture import Architecture

_CHOICES = ("embed_dim", "depth", "num_heads", "mlp_ratio")


@dataclasses.dataclass(frozen=True)
class AutoFormerSpace(SearchSpace):
    """A space of :class:`tftas_optuna.architecture.AutoFormerArchitecture`.

    Each block is one Optuna parameter that combines its heads and its MLP ratio, labelled for
    instance ``"h3 r3.5"``; ``benchmarks/search_quality.py`` measures why.

    Attributes:
        name: Name of the space.
        embed_dim: Choices of the width.
        depth: Choices of the number of blocks.
        num_heads: Choices of a block's heads.
        mlp_ratio: Choices of a block's MLP ratio.
        supernet: The supernet; its head width, patch size, positions and pooling are those of
            every candidate.

    Raises:
        TftasError: A choice is empty, repeated, of the wrong type or beyond the supernet.
    """

    family: ClassVar[str] = "autoformer"

    name: str
    embed_dim: tuple[int, ...]
    depth: tuple[int, ...]
    num_heads: tuple[int, ...]
    mlp_ratio: tuple[float, ...]
    supernet: AutoFormerArchitecture

    def __post_init__(self) -> None:
        for dimension in _CHOICES:
            values = getattr(self, dimension)
            if not isinstance(values, list | tuple) or not values:
                raise TftasError(f"{dimension} is {values!r}, expected a list of choices")
            kinds = (int, float) if dimension == "mlp_ratio" else (int,)
            for value in values:
                if isinstance(value, bool) or not isinstance(value, kinds) or value <= 0:
                    raise TftasError(f"{dimension} holds {value!r}, allowed are positive numbers")
            if len(set(values)) != len(values):
                raise TftasError(f"{dimension} repeats a choice: {list(values)}")
            kind = float if dimension == "mlp_ratio" else int
            object.__setattr__(self, dimension, tuple(sorted(kind(value) for value in values)))
        limits = {
            "embed_dim": self.supernet.embed_dim,
            "depth": self.supernet.depth,
            "num_heads": min(self.supernet.num_heads),
            "mlp_ratio": min(self.supernet.mlp_ratio),
        }
        for dimension, limit in limits.items():
            if getattr(self, dimension)[-1] > limit:
                raise TftasError(
                    f"{dimension} goes up to {getattr(self, dimension)[-1]:g}, the supernet only"
                    f" to {limit:g}"
                )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AutoFormerSpace:
        """Read a space from plain data; see :meth:`to_dict`."""
        supernet = data.get("supernet")
        if not isinstance(supernet, dict):
            raise TftasError(f"supernet is {supernet!r}, expected its embed_dim, depth, ...")
        missing = [key for key in ("name", *_CHOICES) if key not in data]
        missing += [f"supernet.{key}" for key in _CHOICES if key not in supernet]
        if missing:
            raise TftasError(f"an autoformer space needs {', '.join(missing)}")
        unknown = sorted(set(map(str, data)) - {"name", "family", "supernet", *_CHOICES})
        if unknown:
            raise TftasError(f"unknown key {unknown[0]!r} in an autoformer space")
        fields = dict(supernet)
        depth = fields.pop("depth")
        if isinstance(depth, bool) or not isinstance(depth, int) or not 1 <= depth <= 256:
            raise TftasError(f"supernet.depth is {depth!r}, allowed is a whole number 1 to 256")
        for dimension in ("num_heads", "mlp_ratio"):
            fields[dimension] = (fields[dimension],) * depth
        try:
            largest = AutoFormerArchitecture(**fields)
        except TypeError as error:
            raise TftasError(f"supernet: {error}") from error
        return cls(
            name=data["name"],
            supernet=largest,
            **{dimension: data[dimension] for dimension in _CHOICES},
        )

    def to_dict(self) -> dict[str, Any]:
        """Give plain data that :meth:`from_dict` reads back."""
        supernet = self.supernet.to_dict()
        del supernet["family"]
        for dimension in ("num_heads", "mlp_ratio"):
            supernet[dimension] = supernet[dimension][0]
        choices = {dimension: list(getattr(self, dimension)) for dimension in _CHOICES}
        return {"name": self.name, "family": self.family, **choices, "supernet": supernet}

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Give the choices of each dimension."""
        return {dimension: getattr(self, dimension) for dimension in _CHOICES}

    def distributions(self) -> dict[str, CategoricalDistribution]:
        """Give ``embed_dim``, ``depth`` and one parameter per block slot."""
        blocks = CategoricalDistribution(tuple(self._blocks()))
        return {
            "embed_dim": CategoricalDistribution(self.embed_dim),
            "depth": CategoricalDistribution(self.depth),
            **{_slot(i): blocks for i in range(self.depth[-1])},
        }

    def decode(self, params: Mapping[str, Any]) -> AutoFormerArchitecture:
        """Read width, depth and the first ``depth`` block slots; ignore the rest."""
        for dimension in ("embed_dim", "depth"):
            if params.get(dimension) not in getattr(self, dimension):
                raise TftasError(
                    f"parameter {dimension} is {params.get(dimension)!r}, space {self.name} has"
                    f" {list(getattr(self, dimension))}"
                )
        blocks = self._blocks()
        active = []
        for i in range(params["depth"]):
            label = params.get(_slot(i))
            if label not in blocks:
                raise TftasError(
                    f"parameter {_slot(i)} is {label!r}, space {self.name} has {list(blocks)}"
                )
            active.append(blocks[label])
        return dataclasses.replace(
            self.supernet,
            embed_dim=params["embed_dim"],
            num_heads=tuple(heads for heads, _ in active),
            mlp_ratio=tuple(ratio for _, ratio in active),
        )

    def encode(self, arch: Architecture) -> dict[str, Any]:
        """Give the parameters that decode to an architecture."""
        if not isinstance(arch, AutoFormerArchitecture):
            raise TftasError(f"{arch!r} is no autoformer architecture")
        labels = {block: label for label, block in self._blocks().items()}
        active = list(zip(arch.num_heads, arch.mlp_ratio, strict=True))
        outside = [block for block in active if block not in labels]
        if outside:
            raise TftasError(
                f"a block with {outside[0][0]} heads and ratio {outside[0][1]:g} is not in space"
                f" {self.name}"
            )
        padded = active + [next(iter(labels))] * (self.depth[-1] - len(active))
        params = {
            "embed_dim": arch.embed_dim,
            "depth": arch.depth,
            **{_slot(i): labels[block] for i, block in enumerate(padded)},
        }
        if self.decode(params) != arch:
            raise TftasError(
                f"head width, patch size, positions or pooling differ from space {self.name}"
            )
        return params

    def cardinality(self) -> int:
        """Count the distinct architectures; inactive slots do not count."""
        per_block = len(self.num_heads) * len(self.mlp_ratio)
        return len(self.embed_dim) * sum(int(per_block**depth) for depth in self.depth)

    def smallest(self) -> AutoFormerArchitecture:
        """Give the corner of the smallest choices."""
        return self._corner(0)

    def largest(self) -> AutoFormerArchitecture:
        """Give the corner of the largest choices."""
        return self._corner(-1)

    def _corner(self, index: int) -> AutoFormerArchitecture:
        depth = self.depth[index]
        return dataclasses.replace(
            self.supernet,
            embed_dim=self.embed_dim[index],
            num_heads=(self.num_heads[index],) * depth,
            mlp_ratio=(self.mlp_ratio[index],) * depth,
        )

    def _blocks(self) -> dict[str, tuple[int, float]]:
        return {
            f"h{heads} r{ratio:g}": (heads, ratio)
            for heads in self.num_heads
            for ratio in self.mlp_ratio
        }


def _slot(i: int) -> str:
    return f"block_{i + 1:02d}"
