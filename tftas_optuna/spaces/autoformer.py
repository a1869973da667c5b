"""AutoFormer spaces: width and depth once, heads and MLP ratio for every block or once."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any, ClassVar

from optuna.distributions import CategoricalDistribution

from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.architecture.checks import check_int, shown
from tftas_optuna.errors import TftasError
from tftas_optuna.spaces._base import SearchSpace
from tftas_optuna.spaces._checks import INPUT, as_choices, check_input, check_keys, input_fields

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.architecture import Architecture

_CHOICES = ("embed_dim", "depth", "num_heads", "mlp_ratio")
_TRAITS = (
    "head_dim",
    "patch_size",
    "relative_position",
    "max_relative_position",
    "abs_pos",
    "global_pool",
)
# Choices of a block, with the letter that stands for each in a label.
_OF_BLOCK = {"num_heads": "h", "mlp_ratio": "r"}


@dataclasses.dataclass(frozen=True)
class AutoFormerSpace(SearchSpace):
    """A space of :class:`tftas_optuna.architecture.AutoFormerArchitecture`.

    Each block is one Optuna parameter that combines its heads and its MLP ratio, labelled for
    instance ``"h3 r3.5"``; ``benchmarks/search_quality.py`` measures why. What all blocks share
    is a parameter of its own.

    Attributes:
        name: Name of the space.
        embed_dim: Choices of the width.
        depth: Choices of the number of blocks.
        num_heads: Choices of a block's heads.
        mlp_ratio: Choices of a block's MLP ratio.
        supernet: The supernet; its head width, patch size, positions and pooling are those of
            every candidate.
        shared: Which of ``"num_heads"`` and ``"mlp_ratio"`` are chosen once for all blocks.
        img_size: Height and width of the input, in pixels.
        in_chans: Channels of the input.
        num_classes: Outputs of the classifier.

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
    shared: tuple[str, ...] = ()
    img_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000

    def __post_init__(self) -> None:
        for dimension, choices in _sorted_choices(vars(self)).items():
            object.__setattr__(self, dimension, choices)
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
                    f" to {limit:g}",
                    key=(dimension,),
                )
        if not isinstance(self.shared, list | tuple) or any(
            name not in _OF_BLOCK for name in self.shared
        ):
            raise TftasError(
                f"shared is {shown(self.shared)}, allowed is a list of {', '.join(_OF_BLOCK)}",
                key=("shared",),
            )
        object.__setattr__(self, "shared", tuple(n for n in _OF_BLOCK if n in self.shared))
        check_input(self)
        for width, heads in itertools.product(self.embed_dim, self.num_heads):
            if self.supernet.head_dim is None and width % heads:
                raise TftasError(
                    f"num_heads holds {heads}, which does not divide embed_dim {width}; choose"
                    " others or give a head_dim",
                    key=("num_heads",),
                )
        # Built for its checks of the ranges.
        self.smallest()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AutoFormerSpace:
        """Read a space from plain data.

        Traits of the networks, such as ``patch_size``, stand beside the choices; a ``supernet``
        is as large as the largest choices unless it is given. See also :meth:`to_dict`.
        """
        check_keys(
            data,
            cls.family,
            required=_CHOICES,
            optional=("shared", *_TRAITS, *INPUT, "supernet"),
        )
        return cls(
            supernet=_read_supernet(data),
            **{key: data[key] for key in ("name", *_CHOICES)},
            **{key: data[key] for key in ("shared", *INPUT) if key in data},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_dict` reads back, traits inside the supernet."""
        supernet = self.supernet.to_dict()
        del supernet["family"]
        for dimension in ("num_heads", "mlp_ratio"):
            supernet[dimension] = supernet[dimension][0]
        choices = {dimension: list(getattr(self, dimension)) for dimension in _CHOICES}
        shared = {"shared": list(self.shared)} if self.shared else {}
        return {
            "name": self.name,
            "family": self.family,
            **choices,
            **shared,
            "supernet": supernet,
            **input_fields(self),
        }

    def to_retrain(self) -> dict[str, Any]:
        """Return ``SUPERNET`` and ``SEARCH_SPACE`` of AutoFormer's training configurations."""
        supernet = self.supernet
        return {
            "SUPERNET": {
                "MLP_RATIO": supernet.mlp_ratio[0],
                "NUM_HEADS": supernet.num_heads[0],
                "EMBED_DIM": supernet.embed_dim,
                "DEPTH": supernet.depth,
            },
            "SEARCH_SPACE": {
                key.upper(): list(values) for key, values in sorted(self.choices().items())
            },
        }

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the choices of each dimension."""
        return {dimension: getattr(self, dimension) for dimension in _CHOICES}

    def traits(self) -> dict[str, Any]:
        """Return head width, patches, positions, pooling, and what blocks share."""
        traits = {name: getattr(self.supernet, name) for name in _TRAITS}
        traits["head_dim"] = traits["head_dim"] or "embed_dim / num_heads"
        return {**traits, "shared": ", ".join(self.shared) or "nothing, each block its own"}

    def _distributions(self) -> dict[str, CategoricalDistribution]:
        """Return ``embed_dim``, ``depth``, what blocks share, and one parameter per block slot."""
        once = ("embed_dim", "depth", *self.shared)
        blocks = CategoricalDistribution(tuple(self._blocks()))
        slots = range(self.depth[-1]) if self._of_block else ()
        return {
            **{name: CategoricalDistribution(getattr(self, name)) for name in once},
            **{_slot(i): blocks for i in slots},
        }

    def _decode(self, params: Mapping[str, Any]) -> AutoFormerArchitecture:
        """Read width, depth, what blocks share and the first ``depth`` slots; ignore the rest."""
        for dimension in ("embed_dim", "depth", *self.shared):
            if params.get(dimension) not in getattr(self, dimension):
                raise TftasError(
                    f"parameter {dimension} is {params.get(dimension)!r}, space {self.name} has"
                    f" {list(getattr(self, dimension))}"
                )
        depth = params["depth"]
        chosen = {name: (params[name],) * depth for name in self.shared}
        blocks = self._blocks()
        if self._of_block:
            labels = [str(params.get(_slot(i))) for i in range(depth)]
            for i, label in enumerate(labels):
                if label not in blocks:
                    raise TftasError(
                        f"parameter {_slot(i)} is {params.get(_slot(i))!r}, space {self.name} has"
                        f" {list(blocks)}"
                    )
            columns = zip(*(blocks[label] for label in labels), strict=True)
            chosen.update(zip(self._of_block, columns, strict=True))
        return dataclasses.replace(self.supernet, embed_dim=params["embed_dim"], **chosen)

    def _encode(self, arch: Architecture) -> dict[str, Any]:
        """Return the parameters that decode to an architecture."""
        if not isinstance(arch, AutoFormerArchitecture):
            raise TftasError(f"{arch!r} is no autoformer architecture")
        params: dict[str, Any] = {"embed_dim": arch.embed_dim, "depth": arch.depth}
        for name in self.shared:
            values = set(getattr(arch, name))
            if len(values) > 1:
                raise TftasError(
                    f"{name} is {list(getattr(arch, name))}, all blocks of space {self.name}"
                    " share one"
                )
            params[name] = values.pop()
        if self._of_block:
            labels = {block: label for label, block in self._blocks().items()}
            active = list(zip(*(getattr(arch, name) for name in self._of_block), strict=True))
            outside = [block for block in active if block not in labels]
            if outside:
                first = dict(zip(self._of_block, outside[0], strict=True))
                words = {"num_heads": "{:g} heads", "mlp_ratio": "ratio {:g}"}
                block = " and ".join(words[name].format(value) for name, value in first.items())
                raise TftasError(f"a block with {block} is not in space {self.name}")
            padded = active + [next(iter(labels))] * (self.depth[-1] - len(active))
            params.update({_slot(i): labels[block] for i, block in enumerate(padded)})
        if self._decode(params) != arch:
            raise TftasError(
                f"head width, patch size, positions or pooling differ from space {self.name}"
            )
        return params

    def cardinality(self) -> int:
        """Count the distinct architectures; inactive slots do not count."""
        per_block = len(self._blocks())
        common = math.prod(len(getattr(self, name)) for name in ("embed_dim", *self.shared))
        return common * sum(int(per_block**depth) for depth in self.depth)

    def smallest(self) -> AutoFormerArchitecture:
        """Return the corner of the smallest choices."""
        return self._corner(0)

    def largest(self) -> AutoFormerArchitecture:
        """Return the corner of the largest choices."""
        return self._corner(-1)

    def _corner(self, index: int) -> AutoFormerArchitecture:
        depth = self.depth[index]
        # Where heads share the width, fewer of them have larger tables of relative positions.
        heads = index if self.supernet.head_dim is not None else -1 - index
        return dataclasses.replace(
            self.supernet,
            embed_dim=self.embed_dim[index],
            num_heads=(self.num_heads[heads],) * depth,
            mlp_ratio=(self.mlp_ratio[index],) * depth,
        )

    @property
    def _of_block(self) -> tuple[str, ...]:
        return tuple(name for name in _OF_BLOCK if name not in self.shared)

    def _blocks(self) -> dict[str, tuple[float, ...]]:
        """Return what a block may be by its label; one empty label where blocks share all."""
        own = {name: getattr(self, name) for name in self._of_block}
        return {
            " ".join(
                f"{_OF_BLOCK[name]}{value:g}" for name, value in zip(own, block, strict=True)
            ): (block)
            for block in itertools.product(*own.values())
        }


def _sorted_choices(values: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {
        dimension: as_choices(
            dimension, values[dimension], whole=dimension != "mlp_ratio", key=(dimension,)
        )
        for dimension in _CHOICES
    }


def _read_supernet(data: dict[str, Any]) -> AutoFormerArchitecture:
    traits = {key: data[key] for key in _TRAITS if key in data}
    if "supernet" not in data:
        sizes = {name: values[-1] for name, values in _sorted_choices(data).items()}
        where: tuple[str, ...] = ()
    else:
        sizes, where = _given_sizes(data["supernet"], traits), ("supernet",)
    if traits.get("relative_position") is False and "max_relative_position" in traits:
        raise TftasError(
            "max_relative_position has no meaning when relative_position is false; leave it out",
            key=("max_relative_position",),
        )
    check_int("supernet.depth" if where else "depth", sizes["depth"], 1, 256)
    fields = {**traits, **sizes}
    depth = fields.pop("depth")
    for dimension in _OF_BLOCK:
        fields[dimension] = (fields[dimension],) * depth
    try:
        supernet = AutoFormerArchitecture(**fields)
        if "img_size" in data and isinstance(data["img_size"], int):
            grid = supernet.grid(data["img_size"])
            if grid * supernet.patch_size != data["img_size"]:
                raise TftasError(
                    f"img_size {data['img_size']} is no multiple of patch_size"
                    f" {supernet.patch_size}",
                    key=("img_size",),
                )
    except TftasError as error:
        inside = where if error.key[:1] and error.key[0] not in data else ()
        prefix = "supernet." if inside else ""
        raise TftasError(f"{prefix}{error}", key=(*inside, *error.key)) from error
    return supernet


def _given_sizes(supernet: Any, traits: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(supernet, dict):
        raise TftasError(
            f"supernet is {shown(supernet)}, expected its {', '.join(_CHOICES)}",
            key=("supernet",),
        )
    for key in supernet:
        if key in traits:
            raise TftasError(
                f"{key} is given twice, inside supernet and beside it", key=("supernet", key)
            )
        if key not in (*_CHOICES, *_TRAITS):
            raise TftasError(
                f"unknown key {shown(key)} in supernet; known: {', '.join((*_CHOICES, *_TRAITS))}",
                key=("supernet", key),
            )
    missing = [f"supernet.{key}" for key in _CHOICES if key not in supernet]
    if missing:
        raise TftasError(f"an autoformer space needs {', '.join(missing)}", key=("supernet",))
    return dict(supernet)


def _slot(i: int) -> str:
    return f"block_{i + 1:02d}"
