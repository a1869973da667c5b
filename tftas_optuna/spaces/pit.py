"""PiT spaces: one head width and MLP ratio, and a depth and a number of heads per stage."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from optuna.distributions import CategoricalDistribution

from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.architecture.checks import shown
from tftas_optuna.architecture.pit import can_follow
from tftas_optuna.errors import TftasError
from tftas_optuna.spaces._base import SearchSpace
from tftas_optuna.spaces._checks import (
    INPUT,
    UNNAMED,
    as_choices,
    check_given,
    check_input,
    check_keys,
    check_name,
    input_fields,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces._base import Choices

_CHOICES = ("base_dim", "depth", "num_heads", "mlp_ratio")
_PATCHES = ("patch_size", "stride")
_NOT_GIVEN: Any = None


@dataclasses.dataclass(frozen=True, repr=False)
class PiTSpace(SearchSpace):
    """A space of :class:`tftas_optuna.PiTArchitecture`.

    The heads of all stages are one Optuna parameter with labels such as ``"2-4-8"``. It contains
    only valid combinations, in which no stage has fewer heads than the one before.

    Attributes:
        name: Name of the space, ``"custom"`` if none is given.
        base_dim: Choices of the head width.
        depth: For each stage, the choices of the number of blocks.
        num_heads: Choices of the number of heads.
        mlp_ratio: Choices of the MLP ratio.
        patch_size: Side of a patch, in pixels.
        stride: Pixels from one patch to the next.
        img_size: Height and width of the input, in pixels.
        in_chans: Channels of the input.
        num_classes: Outputs of the classifier.

    Raises:
        TftasError: A list of choices is missing or empty, or a choice is repeated, has the wrong
            type or is out of range.
    """

    family: ClassVar[str] = "pit"

    name: str = UNNAMED
    base_dim: tuple[int, ...] = _NOT_GIVEN
    depth: tuple[tuple[int, ...], ...] = _NOT_GIVEN
    num_heads: tuple[int, ...] = _NOT_GIVEN
    mlp_ratio: tuple[float, ...] = _NOT_GIVEN
    patch_size: int = 16
    stride: int = 8
    img_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000

    def __post_init__(self) -> None:
        check_name(vars(self))
        check_given(vars(self), self.family, _CHOICES)
        for dimension in ("base_dim", "num_heads", "mlp_ratio"):
            choices = as_choices(
                dimension,
                getattr(self, dimension),
                whole=dimension != "mlp_ratio",
                key=(dimension,),
            )
            object.__setattr__(self, dimension, choices)
        if not isinstance(self.depth, list | tuple) or not self.depth:
            raise TftasError(
                f"depth is {shown(self.depth)}, expected a list of choices for each stage, such"
                " as [[1, 2], [4, 6], [2, 4]]",
                key=("depth",),
            )
        stages = tuple(
            as_choices(f"depth of stage {i + 1}", values, whole=True, key=("depth", i))
            for i, values in enumerate(self.depth)
        )
        object.__setattr__(self, "depth", stages)
        check_input(self)
        # The constructor of an architecture checks the ranges.
        for corner in (self.smallest(), self.largest()):
            corner.grids(self.img_size)

    @property
    def supernet(self) -> PiTArchitecture:
        """The largest architecture."""
        return self._corner(-1)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PiTSpace:
        """Read a space from plain data; see :meth:`to_dict`."""
        check_keys(data, cls.family, required=_CHOICES, optional=(*_PATCHES, *INPUT))
        return cls(**{key: value for key, value in data.items() if key != "family"})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_dict` reads."""
        choices: dict[str, Any] = {name: list(getattr(self, name)) for name in _CHOICES}
        choices["depth"] = [list(values) for values in self.depth]
        return {
            "name": self.name,
            "family": self.family,
            **choices,
            **self.traits(),
            **input_fields(self),
        }

    def to_retrain(self) -> dict[str, Any]:
        """Return the ``SEARCH_SPACE`` section of TF-TAS's training configurations."""
        return {
            "SEARCH_SPACE": {
                "PATCH_SIZE": [self.patch_size],
                "MLP_RATIO": list(self.mlp_ratio),
                "NUM_HEADS": list(self.num_heads),
                "DEPTH": [",".join(map(str, values)) for values in self.depth],
                "BASE_DIM": list(self.base_dim),
            }
        }

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the choices of each dimension, with one depth per stage."""
        return {
            "base_dim": self.base_dim,
            **{_depth(i): values for i, values in enumerate(self.depth)},
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
        }

    def traits(self) -> dict[str, Any]:
        """Return patch size and stride."""
        return {name: getattr(self, name) for name in _PATCHES}

    def parameters(self) -> dict[str, CategoricalDistribution]:
        """Return ``base_dim``, one depth per stage, the heads of all stages, and ``mlp_ratio``."""
        return dict(self._parameters)

    @cached_property
    def _parameters(self) -> dict[str, CategoricalDistribution]:
        return {
            "base_dim": CategoricalDistribution(self.base_dim),
            **{_depth(i): CategoricalDistribution(v) for i, v in enumerate(self.depth)},
            "num_heads": CategoricalDistribution(tuple(self._heads)),
            "mlp_ratio": CategoricalDistribution(self.mlp_ratio),
        }

    def from_params(self, params: Mapping[str, Any]) -> PiTArchitecture:
        """Return the architecture that the parameters describe."""
        for name, distribution in self._parameters.items():
            if params.get(name) not in distribution.choices:
                raise TftasError(
                    f"parameter {name} is {params.get(name)!r}, space {self.name} has"
                    f" {list(distribution.choices)}"
                )
        return self._build(
            params["base_dim"],
            tuple(params[_depth(i)] for i in range(len(self.depth))),
            self._heads[params["num_heads"]],
            params["mlp_ratio"],
        )

    def to_params(self, arch: Architecture) -> dict[str, Any]:
        """Return the parameters that decode to an architecture."""
        if not isinstance(arch, PiTArchitecture):
            raise TftasError(f"{arch!r} is not a pit architecture")
        if len(arch.depth) != len(self.depth):
            raise TftasError(
                f"depth lists {len(arch.depth)} stages, space {self.name} has {len(self.depth)}"
            )
        params = {
            "base_dim": arch.base_dim,
            **{_depth(i): value for i, value in enumerate(arch.depth)},
            "num_heads": _label(arch.num_heads),
            "mlp_ratio": arch.mlp_ratio,
        }
        if self.from_params(params) != arch:
            raise TftasError(f"patch size or stride differ from space {self.name}")
        return params

    def features_of(self, choices: Choices) -> NDArray[np.float64]:
        """Return the features of many candidates; see :meth:`SearchSpace.features_of`."""
        # Every architecture has a single encoding, so one-hot codes of the choices will do.
        count = len(next(iter(choices.values())))
        columns = [
            choices.get(name, np.zeros(count, dtype=np.int64))[:, None]
            == np.arange(1, len(distribution.choices))
            for name, distribution in self._parameters.items()
        ]
        return np.concatenate(columns, axis=1).astype(float)

    def cardinality(self) -> int:
        """Return the number of architectures."""
        depths = math.prod(len(values) for values in self.depth)
        return len(self.base_dim) * depths * len(self._heads) * len(self.mlp_ratio)

    def smallest(self) -> PiTArchitecture:
        """Return the architecture with the smallest choices."""
        return self._corner(0)

    def largest(self) -> PiTArchitecture:
        """Return the architecture with the largest choices."""
        return self._corner(-1)

    def _corner(self, index: int) -> PiTArchitecture:
        return self._build(
            self.base_dim[index],
            tuple(values[index] for values in self.depth),
            (self.num_heads[index],) * len(self.depth),
            self.mlp_ratio[index],
        )

    def _build(
        self, base_dim: int, depth: tuple[int, ...], num_heads: tuple[int, ...], mlp_ratio: float
    ) -> PiTArchitecture:
        return PiTArchitecture(
            base_dim, depth, num_heads, mlp_ratio, patch_size=self.patch_size, stride=self.stride
        )

    @cached_property
    def _heads(self) -> dict[str, tuple[int, ...]]:
        combinations = itertools.product(self.num_heads, repeat=len(self.depth))
        return {_label(heads): heads for heads in combinations if can_follow(heads)}


def _depth(stage: int) -> str:
    return f"depth_{stage + 1}"


def _label(num_heads: tuple[int, ...]) -> str:
    return "-".join(map(str, num_heads))
