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
from tftas_optuna.spaces._around import from_half, ratios_to
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
    only valid combinations, in which the heads of a stage are a multiple of those before.

    Attributes:
        name: Name of the space, ``"custom"`` if none is given.
        base_dim: Choices of the head width.
        depth: For each stage, the choices of the number of blocks.
        num_heads: Choices of the number of heads, the same for all stages, or for each stage.
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
    num_heads: tuple[int, ...] | tuple[tuple[int, ...], ...] = _NOT_GIVEN
    mlp_ratio: tuple[float, ...] = _NOT_GIVEN
    patch_size: int = 16
    stride: int = 8
    img_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000

    def __post_init__(self) -> None:
        check_name(vars(self))
        check_given(vars(self), self.family, _CHOICES)
        for dimension in ("base_dim", "mlp_ratio"):
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
        object.__setattr__(self, "depth", _of_stages("depth", self.depth))
        object.__setattr__(self, "num_heads", self._checked_heads())
        check_input(self)
        # The constructor of an architecture checks the ranges.
        for corner in (self.smallest(), self.largest()):
            corner.grids(self.img_size)

    def _checked_heads(self) -> tuple[Any, ...]:
        given: Any = self.num_heads
        if not isinstance(given, list | tuple) or not isinstance([*given, None][0], list | tuple):
            return as_choices("num_heads", given, whole=True, key=("num_heads",))
        stages = _of_stages("num_heads", given)
        if len(stages) != len(self.depth):
            raise TftasError(
                f"num_heads lists {len(stages)} stages and depth {len(self.depth)}: give choices"
                " for each stage, or one list for all",
                key=("num_heads",),
            )
        return stages

    @property
    def supernet(self) -> PiTArchitecture:
        """The largest architecture."""
        return self._corner(-1)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PiTSpace:
        """Read a space from plain data; see :meth:`to_dict`."""
        check_keys(data, cls.family, required=_CHOICES, optional=(*_PATCHES, *INPUT))
        return cls(**{key: value for key, value in data.items() if key != "family"})

    @classmethod
    def around(cls, arch: Architecture, **fields: Any) -> PiTSpace:
        """Return a space of narrower and shallower networks with smaller MLPs.

        Heads are as wide as those of the network, so that candidates can be slices of it. Stages
        are half as deep or deeper, and have all heads or half of them, if their number is even;
        MLP ratios are 1 or more.
        """
        assert isinstance(arch, PiTArchitecture)
        return cls(
            base_dim=(arch.base_dim,),
            depth=tuple(tuple(from_half(depth)) for depth in arch.depth),
            num_heads=tuple(
                (heads,) if heads % 2 else (heads // 2, heads) for heads in arch.num_heads
            ),
            mlp_ratio=tuple(ratios_to(arch.mlp_ratio)),
            patch_size=arch.patch_size,
            stride=arch.stride,
            **fields,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_dict` reads."""
        choices: dict[str, Any] = {name: list(getattr(self, name)) for name in _CHOICES}
        choices["depth"] = [list(values) for values in self.depth]
        if self.num_heads != self.heads[0]:
            choices["num_heads"] = [list(values) for values in self.heads]
        return {
            "name": self.name,
            "family": self.family,
            **choices,
            **self.traits(),
            **input_fields(self),
        }

    def to_retrain(self) -> dict[str, Any]:
        """Return the ``SEARCH_SPACE`` section of TF-TAS's training configurations.

        Raises:
            TftasError: The stages have choices of heads of their own.
        """
        if self.num_heads != self.heads[0]:
            raise TftasError("the retrain format has one list of num_heads for all stages")
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
        """Return the choices of each dimension, with one depth per stage.

        Where each stage has choices of its own, those of the heads are the combinations.
        """
        alike = self.num_heads == self.heads[0]
        return {
            "base_dim": self.base_dim,
            **{_depth(i): values for i, values in enumerate(self.depth)},
            "num_heads": self.num_heads if alike else tuple(self._heads),
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
            tuple(values[index] for values in self.heads),
            self.mlp_ratio[index],
        )

    def _build(
        self, base_dim: int, depth: tuple[int, ...], num_heads: tuple[int, ...], mlp_ratio: float
    ) -> PiTArchitecture:
        return PiTArchitecture(
            base_dim, depth, num_heads, mlp_ratio, patch_size=self.patch_size, stride=self.stride
        )

    @cached_property
    def heads(self) -> tuple[tuple[int, ...], ...]:
        """For each stage, the choices of the number of heads."""
        given: Any = self.num_heads
        return given if isinstance(given[0], tuple) else (given,) * len(self.depth)

    @cached_property
    def _heads(self) -> dict[str, tuple[int, ...]]:
        combinations = itertools.product(*self.heads)
        return {_label(heads): heads for heads in combinations if can_follow(heads)}


def _of_stages(name: str, given: Any) -> tuple[tuple[int, ...], ...]:
    """Check and sort the choices of each stage."""
    return tuple(
        as_choices(f"{name} of stage {i + 1}", values, whole=True, key=(name, i))
        for i, values in enumerate(given)
    )


def _depth(stage: int) -> str:
    return f"depth_{stage + 1}"


def _label(num_heads: tuple[int, ...]) -> str:
    return "-".join(map(str, num_heads))
