"""AutoFormer spaces: one width and depth, and heads and MLP ratio per block or shared."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from optuna.distributions import CategoricalDistribution

from tftas_optuna.architecture import AutoFormerArchitecture, architecture_of
from tftas_optuna.architecture.blocks import BlockKind
from tftas_optuna.architecture.checks import shown
from tftas_optuna.errors import TftasError
from tftas_optuna.spaces._around import from_half, ratios_to
from tftas_optuna.spaces._autoformer_fields import (
    CHOICES,
    OF_BLOCK,
    TRAITS,
    read_supernet,
    required_choices,
    slot,
    sorted_choices,
)
from tftas_optuna.spaces._autoformer_tables import Shapes, table_of_blocks
from tftas_optuna.spaces._base import SearchSpace
from tftas_optuna.spaces._checks import (
    INPUT,
    UNNAMED,
    check_given,
    check_input,
    check_keys,
    check_name,
    input_fields,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces._base import Choices, CostOf

_NOT_GIVEN: Any = None


@dataclasses.dataclass(frozen=True, repr=False)
class AutoFormerSpace(SearchSpace):
    """A space of :class:`tftas_optuna.AutoFormerArchitecture`.

    Each block is one Optuna parameter that combines its heads and its MLP ratio, with labels such
    as ``"h3 r3.5"``; ``benchmarks/block_encodings.py`` compares this with other encodings. A
    dimension that all blocks share is a separate parameter.

    Attributes:
        name: Name of the space, ``"custom"`` if none is given.
        embed_dim: Choices of the width.
        depth: Choices of the number of blocks.
        num_heads: Choices of the number of heads; None where the heads follow the width, which
            needs a ``supernet`` with a head width: every block then has ``embed_dim / head_dim``.
        mlp_ratio: Choices of the MLP ratio.
        supernet: Architecture of the supernet; all candidates have its head width, patch size,
            positions and pooling. By default it has the largest choices.
        shared: Which of ``"num_heads"`` and ``"mlp_ratio"`` are chosen once for all blocks.
        img_size: Height and width of the input, in pixels.
        in_chans: Channels of the input.
        num_classes: Outputs of the classifier.

    Raises:
        TftasError: A list of choices is missing or empty, or a choice is repeated, has the wrong
            type or exceeds the supernet.
    """

    family: ClassVar[str] = "autoformer"

    name: str = UNNAMED
    embed_dim: tuple[int, ...] = _NOT_GIVEN
    depth: tuple[int, ...] = _NOT_GIVEN
    num_heads: tuple[int, ...] | None = None
    mlp_ratio: tuple[float, ...] = _NOT_GIVEN
    supernet: AutoFormerArchitecture = _NOT_GIVEN
    shared: tuple[str, ...] = ()
    img_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000

    def __post_init__(self) -> None:
        check_name(vars(self))
        given = self._given_supernet()
        follow = given is not None and given.head_dim is not None
        check_given(
            vars(self), self.family, [n for n in CHOICES if n != "num_heads" or not follow]
        )
        for dimension, choices in sorted_choices(vars(self)).items():
            object.__setattr__(self, dimension, choices)
        if given is None:
            given = read_supernet({name: getattr(self, name) for name in (*CHOICES, "img_size")})
        object.__setattr__(self, "supernet", given)
        limits = {
            "embed_dim": self.supernet.embed_dim,
            "depth": self.supernet.depth,
            "num_heads": min(self.supernet.num_heads),
            "mlp_ratio": min(self.supernet.mlp_ratio),
        }
        for dimension, limit in limits.items():
            if (getattr(self, dimension) or (0,))[-1] > limit:
                raise TftasError(
                    f"{dimension} goes up to {getattr(self, dimension)[-1]:g}, the supernet only"
                    f" to {limit:g}",
                    key=(dimension,),
                )
        if not isinstance(self.shared, list | tuple) or any(
            name not in OF_BLOCK for name in self.shared
        ):
            raise TftasError(
                f"shared is {shown(self.shared)}, allowed is a list of {', '.join(OF_BLOCK)}",
                key=("shared",),
            )
        object.__setattr__(self, "shared", tuple(n for n in OF_BLOCK if n in self.shared))
        if self.head_dim is not None:
            self._check_follows(self.head_dim)
        check_input(self)
        for width, heads in itertools.product(self.embed_dim, self.num_heads or ()):
            if self.supernet.head_dim is None and width % heads:
                raise TftasError(
                    f"num_heads holds {heads}, which does not divide embed_dim {width}; choose"
                    " others or give a head_dim",
                    key=("num_heads",),
                )
        # The constructor of an architecture checks the ranges.
        self.smallest()

    def _check_follows(self, head_dim: int) -> None:
        """Check that the heads can follow every width."""
        uneven = [width for width in self.embed_dim if width % head_dim]
        if uneven:
            raise TftasError(
                f"embed_dim holds {uneven[0]}, which is no multiple of head_dim {head_dim}; choose"
                " others or give num_heads",
                key=("embed_dim",),
            )
        if self.embed_dim[-1] > head_dim * min(self.supernet.num_heads):
            raise TftasError(
                f"embed_dim goes up to {self.embed_dim[-1]}, which takes"
                f" {self.embed_dim[-1] // head_dim} heads, the supernet has only"
                f" {min(self.supernet.num_heads)}",
                key=("embed_dim",),
            )
        if "num_heads" in self.shared:
            raise TftasError(
                "shared holds num_heads, which follow the width; leave it out or give num_heads",
                key=("shared",),
            )

    def _given_supernet(self) -> AutoFormerArchitecture | None:
        given: Any = self.supernet
        if given is None:
            return None
        supernet = architecture_of(given)
        if not isinstance(supernet, AutoFormerArchitecture):
            raise TftasError(
                f"supernet is {shown(supernet)}, expected an AutoFormerArchitecture",
                key=("supernet",),
            )
        return supernet

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AutoFormerSpace:
        """Read a space from plain data.

        Traits of the networks, such as ``patch_size``, are keys beside the choices. Without the
        key ``supernet``, the supernet has the largest choices. With a ``head_dim`` and without the
        key ``num_heads``, the heads follow the width. See also :meth:`to_dict`.
        """
        check_keys(
            data,
            cls.family,
            required=required_choices(data),
            optional=("shared", *TRAITS, *INPUT, "supernet"),
        )
        return cls(
            supernet=read_supernet(data),
            **{key: data[key] for key in ("name", *CHOICES, "shared", *INPUT) if key in data},
        )

    @classmethod
    def around(cls, arch: Architecture, **fields: Any) -> AutoFormerSpace:
        """Return a space of networks half as wide and deep or more, with MLP ratios from 1."""
        assert isinstance(arch, AutoFormerArchitecture)
        (head_dim,) = set(arch.head_dims)
        return cls(
            embed_dim=tuple(head_dim * heads for heads in from_half(arch.num_heads[0])),
            depth=tuple(from_half(arch.depth)),
            mlp_ratio=tuple(ratios_to(arch.mlp_ratio[0])),
            shared=("mlp_ratio",),
            supernet=arch,
            **fields,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_dict` reads, with the traits inside the supernet."""
        supernet = self.supernet.to_dict()
        del supernet["family"]
        for dimension in ("num_heads", "mlp_ratio"):
            supernet[dimension] = supernet[dimension][0]
        named = [name for name in CHOICES if getattr(self, name) is not None]
        choices = {dimension: list(getattr(self, dimension)) for dimension in named}
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
        """Return the sections ``SUPERNET`` and ``SEARCH_SPACE`` of AutoFormer's configurations."""
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
        """Return the choices of each dimension, also of heads that follow the width."""
        heads = tuple(dict.fromkeys(heads for _, heads in self._widths_and_heads()))
        return {**{name: getattr(self, name) for name in CHOICES}, "num_heads": heads}

    def traits(self) -> dict[str, Any]:
        """Return head width, patch size, positions, pooling, and the shared dimensions."""
        traits = {name: getattr(self.supernet, name) for name in TRAITS}
        traits["head_dim"] = traits["head_dim"] or "embed_dim / num_heads"
        if self.head_dim is not None:
            traits["head_dim"] = f"{self.head_dim}, in embed_dim / {self.head_dim} heads"
        return {**traits, "shared": ", ".join(self.shared) or "nothing, each block its own"}

    def parameters(self) -> dict[str, CategoricalDistribution]:
        """Return ``embed_dim``, ``depth``, shared dimensions, and one parameter per block slot."""
        common = ("embed_dim", "depth", *self.shared)
        blocks = CategoricalDistribution(tuple(self.blocks))
        slots = range(self.depth[-1]) if self.of_block else ()
        return {
            **{name: CategoricalDistribution(getattr(self, name)) for name in common},
            **{slot(i): blocks for i in slots},
        }

    def from_params(self, params: Mapping[str, Any]) -> AutoFormerArchitecture:
        """Return the architecture of the first ``depth`` block slots; the others are ignored."""
        for dimension in ("embed_dim", "depth", *self.shared):
            if params.get(dimension) not in getattr(self, dimension):
                raise TftasError(
                    f"parameter {dimension} is {params.get(dimension)!r}, space {self.name} has"
                    f" {list(getattr(self, dimension))}"
                )
        depth = params["depth"]
        fields = {name: (params[name],) * depth for name in self.shared}
        if self.head_dim is not None:
            fields["num_heads"] = (params["embed_dim"] // self.head_dim,) * depth
        blocks = self.blocks
        if self.of_block:
            labels = [str(params.get(slot(i))) for i in range(depth)]
            for i, label in enumerate(labels):
                if label not in blocks:
                    raise TftasError(
                        f"parameter {slot(i)} is {params.get(slot(i))!r}, space {self.name} has"
                        f" {list(blocks)}"
                    )
            columns = zip(*(blocks[label] for label in labels), strict=True)
            fields.update(zip(self.of_block, columns, strict=True))
        return dataclasses.replace(self.supernet, embed_dim=params["embed_dim"], **fields)

    def to_params(self, arch: Architecture) -> dict[str, Any]:
        """Return the parameters that decode to an architecture."""
        if not isinstance(arch, AutoFormerArchitecture):
            raise TftasError(f"{arch!r} is not an autoformer architecture")
        params: dict[str, Any] = {"embed_dim": arch.embed_dim, "depth": arch.depth}
        for name in self.shared:
            values = set(getattr(arch, name))
            if len(values) > 1:
                raise TftasError(
                    f"{name} is {list(getattr(arch, name))}, all blocks of space {self.name}"
                    " share one"
                )
            params[name] = values.pop()
        if self.of_block:
            labels = {block: label for label, block in self.blocks.items()}
            active = list(zip(*(getattr(arch, name) for name in self.of_block), strict=True))
            outside = [block for block in active if block not in labels]
            if outside:
                first = dict(zip(self.of_block, outside[0], strict=True))
                formats = {"num_heads": "{:g} heads", "mlp_ratio": "ratio {:g}"}
                block = " and ".join(formats[name].format(value) for name, value in first.items())
                raise TftasError(f"a block with {block} is not in space {self.name}")
            padded = active + [next(iter(labels))] * (self.depth[-1] - len(active))
            params.update({slot(i): labels[block] for i, block in enumerate(padded)})
        decoded = self.from_params(params)
        if decoded.num_heads != arch.num_heads:
            raise TftasError(
                f"num_heads is {list(arch.num_heads)}, space {self.name} has"
                f" {decoded.num_heads[0]} for embed_dim {arch.embed_dim}"
            )
        if decoded != arch:
            raise TftasError(
                f"head width, patch size, positions or pooling differ from space {self.name}"
            )
        return params

    def features(self, arch: Architecture) -> tuple[float, ...]:
        """Return the features of an architecture; see :meth:`SearchSpace.features`.

        They are the index of heads and ratio of every block slot, scaled to the range from -1/2
        to 1/2 and 0 for inactive slots, and thermometer codes of depth and width.
        """
        distributions = self.distributions()
        choices = {
            name: np.array([distributions[name].choices.index(value)])
            for name, value in self.encode(arch).items()
        }
        return tuple(self.features_of(choices)[0].tolist())

    def features_of(self, choices: Choices) -> NDArray[np.float64]:
        """Return the features of many candidates; see :meth:`SearchSpace.features_of`."""
        return Shapes.read(self, choices).features(self)

    def tabulate(self, cost: Callable[[Architecture], float]) -> CostOf:
        """Return a function for many candidates, with a table if the cost adds up over blocks."""
        return table_of_blocks(self, cost) or super().tabulate(cost)

    def block_kinds(self) -> list[BlockKind]:
        """Return all kinds of blocks: combinations of width, heads and MLP ratio."""
        kinds = itertools.product(self._widths_and_heads(), self.mlp_ratio)
        return [BlockKind(width, heads, ratio) for (width, heads), ratio in kinds]

    def cardinality(self) -> int:
        """Return the number of distinct architectures; inactive slots do not count."""
        per_block = len(self.blocks)
        common = math.prod(len(getattr(self, name)) for name in ("embed_dim", *self.shared))
        return common * sum(int(per_block**depth) for depth in self.depth)

    def smallest(self) -> AutoFormerArchitecture:
        """Return the architecture with the smallest choices."""
        return self._corner(0)

    def largest(self) -> AutoFormerArchitecture:
        """Return the architecture with the largest choices."""
        return self._corner(-1)

    def _corner(self, index: int) -> AutoFormerArchitecture:
        depth, (width, heads) = self.depth[index], self._widths_and_heads()[index]
        if self.supernet.head_dim is None and self.num_heads is not None:
            # Where heads share the width, fewer heads have larger tables of relative positions.
            heads = self.num_heads[-1 - index]
        return dataclasses.replace(
            self.supernet,
            embed_dim=width,
            num_heads=(heads,) * depth,
            mlp_ratio=(self.mlp_ratio[index],) * depth,
        )

    @property
    def head_dim(self) -> int | None:
        """Width of a head where the number of heads follows the width; None where it is chosen."""
        return self.supernet.head_dim if self.num_heads is None else None

    def _widths_and_heads(self) -> list[tuple[int, int]]:
        """Return the widths, each with every number of heads that it may have."""
        if self.head_dim is not None:
            return [(width, width // self.head_dim) for width in self.embed_dim]
        return list(itertools.product(self.embed_dim, self.num_heads or ()))

    @cached_property
    def of_block(self) -> tuple[str, ...]:
        """The dimensions that are chosen per block."""
        given = [name for name in OF_BLOCK if getattr(self, name) is not None]
        return tuple(name for name in given if name not in self.shared)

    @cached_property
    def blocks(self) -> dict[str, tuple[float, ...]]:
        """The values of a block by label; one empty label if blocks share all dimensions."""
        values = {name: getattr(self, name) for name in self.of_block}
        return {
            " ".join(
                f"{OF_BLOCK[name]}{value:g}" for name, value in zip(values, block, strict=True)
            ): (block)
            for block in itertools.product(*values.values())
        }
