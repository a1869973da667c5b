"""What may be suggested, whatever the family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import BaseTrial

    from tftas_optuna.architecture import Architecture, Costs


class SearchSpace(ABC):
    """A set of architectures, written as Optuna parameters.

    The distributions are constant: every block slot up to the largest depth is suggested in
    every trial, and the slots beyond a candidate's depth are ignored when it is decoded. NSGA-II
    crosses over only parameters that all trials share.

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
    supernet: Any
    img_size: int
    in_chans: int
    num_classes: int

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[str, Any]) -> SearchSpace:
        """Read a space from plain data; see :meth:`to_dict`.

        Raises:
            TftasError: The data describes no space of this family; says what is wrong.
        """

    @abstractmethod
    def distributions(self) -> dict[str, CategoricalDistribution]:
        """Give every Optuna parameter of the space, the same in every trial."""

    @abstractmethod
    def decode(self, params: Mapping[str, Any]) -> Architecture:
        """Turn the parameters of a trial into the architecture they mean.

        Raises:
            TftasError: A parameter is missing or is no choice of this space.
        """

    @abstractmethod
    def encode(self, arch: Architecture) -> dict[str, Any]:
        """Turn an architecture into parameters, inactive slots at their first choice.

        Raises:
            TftasError: The architecture is not in the space; says where.
        """

    @abstractmethod
    def cardinality(self) -> int:
        """Count the distinct architectures."""

    @abstractmethod
    def smallest(self) -> Architecture:
        """Give the cheapest architecture, in parameters and MACs."""

    @abstractmethod
    def largest(self) -> Architecture:
        """Give the most expensive architecture, in parameters and MACs."""

    @abstractmethod
    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Give the choices of each dimension, in the field's words."""

    @abstractmethod
    def traits(self) -> dict[str, Any]:
        """Give what all architectures of the space have in common, in the field's words."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Give a description that :func:`tftas_optuna.spaces.space_from_dict` reads back."""

    @abstractmethod
    def to_retrain(self) -> dict[str, Any]:
        """Give the space's own sections of the family's published training configurations."""

    def costs(self, arch: Architecture) -> Costs:
        """Count parameters and MACs of an architecture on the space's own images."""
        return arch.costs(
            img_size=self.img_size, num_classes=self.num_classes, in_chans=self.in_chans
        )

    def suggest(self, trial: BaseTrial) -> Architecture:
        """Suggest every parameter of the space and decode the result."""
        return self.decode(
            {
                name: trial.suggest_categorical(name, distribution.choices)
                for name, distribution in self.distributions().items()
            }
        )

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
