"""The base class of search spaces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tftas_optuna._given import expect, shown
from tftas_optuna.architecture import architecture_of
from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import BaseTrial
    from torch import nn

    from tftas_optuna.architecture import Architecture, ArchitectureLike, Costs
    from tftas_optuna.architecture.blocks import BlockKind

    Choices = Mapping[str, NDArray[np.int64]]
    CostOf = Callable[[Choices], NDArray[np.float64]]


# Candidates whose costs are cached; small spaces propose the same ones again and again.
_CACHE_SIZE = 1 << 16


class SearchSpace(ABC):
    """A set of architectures, encoded as Optuna parameters.

    All trials have the same parameters, because NSGA-II crosses over only parameters that all
    trials share: every block slot up to the largest depth is suggested in every trial, and slots
    beyond a candidate's depth are ignored when it is decoded.

    The space of a family defines its parameters in :meth:`parameters`, :meth:`from_params` and
    :meth:`to_params`, without prefixes; this class adds and removes them.

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
        # Declared for type checkers only, so that a family can use an attribute or a property.
        @property
        def supernet(self) -> Architecture: ...

    @classmethod
    @abstractmethod
    def from_dict(cls, data: dict[str, Any]) -> SearchSpace:
        """Read a space from plain data; see :meth:`to_dict`.

        Raises:
            TftasError: The data describes no space of this family; the message says what is wrong.
        """

    @classmethod
    def around(cls, arch: Architecture, **fields: Any) -> SearchSpace:
        """Return a space of smaller architectures, of which the given one is the largest.

        Args:
            arch: An architecture of this family.
            **fields: ``name``, ``img_size``, ``in_chans`` and ``num_classes`` of the space.

        Raises:
            TftasError: The family defines none.
        """
        raise TftasError(f"family {cls.family} defines no space around a network")

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return plain data that :func:`tftas_optuna.spaces.space_from_dict` reads back."""

    @abstractmethod
    def cardinality(self) -> int:
        """Return the number of distinct architectures."""

    @abstractmethod
    def smallest(self) -> Architecture:
        """Return the cheapest architecture, in parameters and MACs."""

    @abstractmethod
    def largest(self) -> Architecture:
        """Return the most expensive architecture, in parameters and MACs."""

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the choices of each dimension by its common name, for display."""
        return {name: tuple(param.choices) for name, param in self.parameters().items()}

    def traits(self) -> dict[str, Any]:
        """Return the properties that all architectures of the space share, for display."""
        return {}

    def block_kinds(self) -> list[BlockKind]:
        """Return all kinds of blocks; empty if :meth:`Architecture.block_kinds` is."""
        return []

    def distributions(self, *, prefix: str = "") -> dict[str, CategoricalDistribution]:
        """Return every Optuna parameter of the space, the same in every trial.

        Args:
            prefix: Prefix of every name.
        """
        return {prefix + name: param for name, param in self.parameters().items()}

    def decode(self, params: Mapping[str, Any], *, prefix: str = "") -> Architecture:
        """Return the architecture that the parameters of a trial describe.

        Args:
            params: Values by name; other parameters are ignored.
            prefix: Prefix of the names of this space.

        Raises:
            TftasError: A parameter is missing or is not a choice of this space.
        """
        expect("params", params, Mapping, "parameters by name, such as trial.params")
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

    def encode(self, arch: ArchitectureLike, *, prefix: str = "") -> dict[str, Any]:
        """Return the parameters of an architecture, with inactive slots at their first choice.

        Args:
            arch: The architecture, or a candidate of a front.
            prefix: Prefix of every name.

        Raises:
            TftasError: The architecture is not in the space; the message says why.
        """
        params = self.to_params(architecture_of(arch))
        return {prefix + name: value for name, value in params.items()}

    def costs(self, arch: ArchitectureLike) -> Costs:
        """Return the parameters and MACs of an architecture for the input of the space.

        Args:
            arch: The architecture, or a candidate of a front.
        """
        return architecture_of(arch).costs(**self._sizes())

    def build(self, arch: ArchitectureLike, **kwargs: Any) -> nn.Module:
        """Build the stand-alone network of an architecture, with fresh weights.

        It takes images of the space's size and channels and has one output per class.

        Args:
            arch: The architecture, or a candidate of a front.
            **kwargs: timm's model arguments, such as ``drop_path_rate``; ``num_classes``,
                ``img_size`` and ``in_chans`` override those of the space.

        Returns:
            A module with timm's interface; see :func:`tftas_optuna.build_model`.
        """
        # timm and PyTorch take seconds to load, and most uses of spaces need neither.
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
            prefix: Prefix of every name, to avoid collisions with another space or other
                parameters of the same trial.

        Raises:
            TftasError: It is no trial.
        """
        if not hasattr(trial, "suggest_categorical"):
            raise TftasError(f"trial is {shown(trial)}, expected a trial of Optuna")
        return self.decode(
            {
                name: trial.suggest_categorical(name, distribution.choices)
                for name, distribution in self.distributions(prefix=prefix).items()
            },
            prefix=prefix,
        )

    def features(self, arch: Architecture) -> tuple[float, ...]:
        """Return an architecture's features for a regression on its objective values.

        Different architectures have different features. The default is a one-hot encoding of
        every parameter; a family's space may override it.

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
        """Return the :meth:`features` of many candidates, shape (candidates, features).

        Args:
            choices: For each parameter, the index of every candidate's choice, shape
                (candidates,). Parameters with a single choice may be left out.
        """
        return np.array([self.features(arch) for arch in self.chosen(choices)])

    def tabulate(self, cost: Callable[[Architecture], float]) -> CostOf:
        """Return a function that computes a cost for many candidates at once.

        The default computes them one by one, and keeps them; a family's space may override it.

        Args:
            cost: Function that computes the cost of one architecture.

        Returns:
            A function of the ``choices`` of :meth:`features_of`, with values of shape
            (candidates,).
        """
        distributions = self.distributions()
        first = {name: param.choices[0] for name, param in distributions.items()}

        @lru_cache(maxsize=_CACHE_SIZE)
        def of(names: tuple[str, ...], indices: tuple[int, ...]) -> float:
            given = {n: distributions[n].choices[i] for n, i in zip(names, indices, strict=True)}
            return cost(self.from_params({**first, **given}))

        def table(choices: Choices) -> NDArray[np.float64]:
            names = tuple(choices)
            rows = zip(*(column.tolist() for column in choices.values()), strict=True)
            return np.array([of(names, row) for row in rows])

        return table

    def chosen(self, choices: Choices) -> Iterator[Architecture]:
        """Decode many candidates from the ``choices`` of :meth:`features_of`."""
        distributions = self.distributions()
        count = len(next(iter(choices.values())))
        columns = [
            [param.choices[i] for i in choices[name]]
            if name in choices
            else [param.choices[0]] * count
            for name, param in distributions.items()
        ]
        for values in zip(*columns, strict=True):
            yield self.from_params(dict(zip(distributions, values, strict=True)))

    def sample(self, rng: np.random.Generator | int | None = None) -> Architecture:
        """Return an architecture with every parameter drawn uniformly and independently.

        Args:
            rng: A generator, the seed of one, or None for another architecture at each call.

        Raises:
            TftasError: It is no seed.
        """
        try:
            generator = np.random.default_rng(rng)
        except (TypeError, ValueError) as error:
            raise TftasError(
                f"rng is {shown(rng)}, expected a seed, 0 or more, or a generator of numpy"
            ) from error
        return self.decode(
            {
                name: distribution.choices[int(generator.integers(len(distribution.choices)))]
                for name, distribution in self.distributions().items()
            }
        )

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name!r}: {self.cardinality():,} architectures for"
            f" {self.in_chans} x {self.img_size} x {self.img_size} images and"
            f" {self.num_classes:,} classes>"
        )

    def __contains__(self, arch: object) -> bool:
        try:
            self.encode(arch)  # type: ignore[arg-type]
        except TftasError:
            return False
        return True

    @abstractmethod
    def parameters(self) -> dict[str, CategoricalDistribution]:
        """Return every Optuna parameter by its name without prefix, the same in every trial."""

    @abstractmethod
    def from_params(self, params: Mapping[str, Any]) -> Architecture:
        """Return the architecture of parameters without prefix; see :meth:`decode`.

        Raises:
            TftasError: A parameter is missing or is not a choice of this space.
        """

    @abstractmethod
    def to_params(self, arch: Architecture) -> dict[str, Any]:
        """Return the parameters of an architecture without prefix; see :meth:`encode`.

        Raises:
            TftasError: The architecture is not in the space; the message says why.
        """
