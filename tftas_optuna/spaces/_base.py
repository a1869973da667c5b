"""What may be suggested, whatever the family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import BaseTrial
    from torch import nn

    from tftas_optuna.architecture import Architecture, Costs
    from tftas_optuna.architecture.blocks import BlockKind

    Choices = Mapping[str, NDArray[np.int64]]
    CostOf = Callable[[Choices], NDArray[np.float64]]


# Candidates whose costs are kept; in small spaces the same come again and again.
_REMEMBERED = 1 << 16


class SearchSpace(ABC):
    """A set of architectures, written as Optuna parameters.

    The distributions are constant: every block slot up to the largest depth is suggested in
    every trial, and the slots beyond a candidate's depth are ignored when it is decoded. NSGA-II
    crosses over only parameters that all trials share.

    A family's space says what its parameters are in :meth:`parameters`, :meth:`from_params` and
    :meth:`to_params`; names as users see them, with their prefix, are made here.

    Attributes:
        name: Name of the space, also the default name of a study on it.
        family: Family of its architectures.
        supernet: The architecture of the supernet, at least as large as every candidate.
        img_size: Height and width of the images the space is meant for, in pixels.
        in_chans: Channels of those images.
        num_classes: Classes of those images.
    """

    family: ClassVar[str]
    name: str
    img_size: int
    in_chans: int
    num_classes: int

    if TYPE_CHECKING:
        # An attribute or a property, as the family likes: at run time nothing is in its way.
        @property
        def supernet(self) -> Architecture: ...

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[str, Any]) -> SearchSpace:
        """Read a space from plain data; see :meth:`to_dict`.

        Raises:
            TftasError: The data describes no space of this family; says what is wrong.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain data that :func:`tftas_optuna.spaces.space_from_dict` reads back."""

    @abstractmethod
    def cardinality(self) -> int:
        """Count the distinct architectures."""

    @abstractmethod
    def smallest(self) -> Architecture:
        """Return the cheapest architecture, in parameters and MACs."""

    @abstractmethod
    def largest(self) -> Architecture:
        """Return the most expensive architecture, in parameters and MACs."""

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the choices of each dimension, in the field's words, for people to read."""
        return {name: tuple(found.choices) for name, found in self.parameters().items()}

    def traits(self) -> dict[str, Any]:
        """Return what all architectures of the space have in common, for people to read."""
        return {}

    def block_kinds(self) -> list[BlockKind]:
        """List what blocks may be; empty where :meth:`Architecture.block_kinds` is."""
        return []

    def distributions(self, *, prefix: str = "") -> dict[str, CategoricalDistribution]:
        """Return every Optuna parameter of the space, the same in every trial.

        Args:
            prefix: What every name begins with.
        """
        return {prefix + name: found for name, found in self.parameters().items()}

    def decode(self, params: Mapping[str, Any], *, prefix: str = "") -> Architecture:
        """Turn the parameters of a trial into the architecture they mean.

        Args:
            params: Values by name; names of other parameters do no harm.
            prefix: What the names of this space begin with.

        Raises:
            TftasError: A parameter is missing or is no choice of this space.
        """
        if not prefix:
            return self.from_params(params)
        try:
            return self.from_params(
                {
                    name.removeprefix(prefix): value
                    for name, value in params.items()
                    if name.startswith(prefix)
                }
            )
        except TftasError as error:
            raise TftasError(f"behind the prefix {prefix!r}: {error}") from error

    def encode(self, arch: Architecture, *, prefix: str = "") -> dict[str, Any]:
        """Turn an architecture into parameters, inactive slots at their first choice.

        Args:
            arch: The architecture.
            prefix: What every name begins with.

        Raises:
            TftasError: The architecture is not in the space; says where.
        """
        return {prefix + name: value for name, value in self.to_params(arch).items()}

    def costs(self, arch: Architecture) -> Costs:
        """Count parameters and MACs of an architecture on the images of the space."""
        return arch.costs(**self._sizes())

    def build(self, arch: Architecture, **kwargs: Any) -> nn.Module:
        """Build the stand-alone network of an architecture, with fresh weights.

        It takes images of the space's size and channels, and tells the space's classes apart.

        Args:
            arch: What to build.
            **kwargs: timm's model arguments, such as ``drop_path_rate``; ``num_classes``,
                ``img_size`` and ``in_chans`` take the place of the space's own.

        Returns:
            A module with timm's interface; see :func:`tftas_optuna.build_model`.
        """
        # timm and PyTorch take seconds to load, and most of what spaces do needs neither.
        from tftas_optuna.models import build_model

        return build_model(arch, **{**self._sizes(), **kwargs})

    def _sizes(self) -> dict[str, int]:
        return {
            "img_size": self.img_size,
            "num_classes": self.num_classes,
            "in_chans": self.in_chans,
        }

    def suggest(self, trial: BaseTrial, *, prefix: str = "") -> Architecture:
        """Suggest every parameter of the space and decode the result.

        Args:
            trial: The trial.
            prefix: What every name begins with, so that it collides neither with another space
                nor with other parameters of the same trial.
        """
        return self.decode(
            {
                name: trial.suggest_categorical(name, distribution.choices)
                for name, distribution in self.distributions(prefix=prefix).items()
            },
            prefix=prefix,
        )

    def features(self, arch: Architecture) -> tuple[float, ...]:
        """Describe an architecture by numbers that a regression explains its values by.

        Different architectures have different features. A family's space may know better ones
        than these: for every parameter, which of its choices it is.

        Raises:
            TftasError: The architecture is not in the space.
        """
        params = self.encode(arch)
        return tuple(
            float(params[name] == choice)
            for name, distribution in self.distributions().items()
            for choice in distribution.choices[1:]
        )

    def features_of(self, choices: Choices) -> NDArray[np.float64]:
        """Describe many candidates at once, shape (candidates, features); see :meth:`features`.

        Args:
            choices: For each parameter, which of its choices every candidate has, counted from 0;
                shape (candidates,). Parameters of a single choice may be left out.
        """
        return np.array([self.features(arch) for arch in self.chosen(choices)])

    def tabulate(self, cost: Callable[[Architecture], float]) -> CostOf:
        """Make a function that takes a cost of many candidates at once.

        Args:
            cost: Takes it of one architecture.

        Returns:
            A function of ``choices``, as :meth:`features_of` takes them; its values have the
            shape (candidates,). A family's space may know how to be faster than one by one.
        """
        known = lru_cache(maxsize=_REMEMBERED)(cost)
        return lambda choices: np.array([known(arch) for arch in self.chosen(choices)])

    def chosen(self, choices: Choices) -> Iterator[Architecture]:
        """Decode many candidates; see :meth:`features_of`."""
        distributions = self.distributions()
        count = len(next(iter(choices.values())))
        columns = [
            [found.choices[i] for i in choices[name]]
            if name in choices
            else [found.choices[0]] * count
            for name, found in distributions.items()
        ]
        for values in zip(*columns, strict=True):
            yield self.from_params(dict(zip(distributions, values, strict=True)))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw every parameter uniformly and independently, as a random sampler does."""
        return self.decode(
            {
                name: distribution.choices[int(rng.integers(len(distribution.choices)))]
                for name, distribution in self.distributions().items()
            }
        )

    def __contains__(self, arch: object) -> bool:
        try:
            self.encode(arch)  # type: ignore[arg-type]
        except TftasError:
            return False
        return True

    @abstractmethod
    def parameters(self) -> dict[str, CategoricalDistribution]:
        """Return every Optuna parameter by its name without a prefix, the same in every trial."""

    @abstractmethod
    def from_params(self, params: Mapping[str, Any]) -> Architecture:
        """Turn values by name into the architecture they mean; see :meth:`decode`.

        Raises:
            TftasError: A parameter is missing or is no choice of this space.
        """

    @abstractmethod
    def to_params(self, arch: Architecture) -> dict[str, Any]:
        """Turn an architecture into values by name; see :meth:`encode`.

        Raises:
            TftasError: The architecture is not in the space; says where.
        """
