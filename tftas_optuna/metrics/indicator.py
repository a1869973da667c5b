"""The base class of indicators, which predict the quality of untrained architectures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from tftas_optuna._given import expect
from tftas_optuna.errors import TftasError, did_you_mean
from tftas_optuna.metrics.base import Direction, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from typing_extensions import Self

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.passes.ground import Ground
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.networks import View
    from tftas_optuna.passes.precision import MatmulPrecision
    from tftas_optuna.scoring.conditions import Conditions


class Engine(Protocol):
    """Scores candidates of one supernet with several indicators of one kind."""

    batch_size: int

    def prepare(self) -> None:
        """Draw weights and images ahead of the first score."""

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Return the scores of each candidate, one per indicator."""

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Return the scores of a candidate's layers by the first indicator, in forward order."""


@dataclasses.dataclass(frozen=True)
class Indicator(Metric):
    """A named score of an untrained architecture.

    This is an abstract base class; each subclass is a kind of indicator. It declares the inputs
    and the fidelities of its indicators and creates the engine that computes them, so that no
    other code depends on the kind. The kinds of this package are :class:`FunctionIndicator`,
    :class:`tftas_optuna.indicators.LayerIndicator`,
    :class:`tftas_optuna.indicators.NetworkIndicator`,
    :class:`tftas_optuna.indicators.LabelledIndicator` and
    :class:`tftas_optuna.indicators.CompositeIndicator`. Fields that a subclass adds are its
    options, which :class:`tftas_optuna.Scorer` takes by name.

    Attributes:
        name: Name for objectives, bounds and scorers.
        direction: Direction of optimisation.
        unit: Unit of the values, usually empty.
        fidelities: The fidelities at which it can be computed, ``"exact"`` first.
        sums_layers: Whether it is a sum over the layers of a pass through many candidates at
            once, with any precision of matrix products.
        composite: Whether it combines other metrics; see
            :class:`tftas_optuna.indicators.CompositeIndicator`.
        replaceable: Whether another indicator may be registered under its name.
    """

    name: str
    direction: Direction = "maximize"
    unit: str = ""
    fidelities: ClassVar[tuple[str, ...]] = ("exact",)
    sums_layers: ClassVar[bool] = False
    composite: ClassVar[bool] = False
    replaceable: ClassVar[bool] = False

    # Fields that are not options.
    _hidden: ClassVar[frozenset[str]] = frozenset()

    @property
    def options(self) -> dict[str, Any]:
        """The values of its options by name."""
        fields = {field.name for field in dataclasses.fields(self)} - {"name", "direction", "unit"}
        return {name: getattr(self, name) for name in sorted(fields - self._hidden)}

    def with_options(self, **options: Any) -> Self:
        """Return a copy with other values of some options.

        Raises:
            TftasError: An option does not exist, or is a number and gets something else.
        """
        unknown = [name for name in options if name not in self.options]
        if unknown:
            hint = did_you_mean(unknown[0], self.options)
            raise TftasError(f"indicator {self.name!r} has no option {unknown[0]}{hint}")
        for name, value in options.items():
            if isinstance(getattr(self, name), int | float):
                expect(name, value, (int, float), "a number")
        return dataclasses.replace(self, **options)

    def check_fidelity(self, fidelity: str) -> None:
        """Check that the indicator has a fidelity.

        Raises:
            TftasError: It does not.
        """
        if fidelity not in self.fidelities:
            raise TftasError(
                f"indicator {self.name!r} has no fidelity {fidelity!r}; it has:"
                f" {', '.join(self.fidelities)}"
            )

    def fidelity_for(self, fidelity: str) -> str:
        """Return the given fidelity if the indicator has it, otherwise ``"exact"``."""
        return fidelity if fidelity in self.fidelities else "exact"

    @property
    def batches(self) -> int:
        """Number of image batches that it uses; 0 if it uses no images."""
        return 0

    @property
    def labelled(self) -> bool:
        """Whether it sees the labelled images that conditions have for evaluation."""
        return False

    @property
    def side_by_side(self) -> bool:
        """Whether several threads can compute it at the same time."""
        return False

    @property
    def relative(self) -> bool:
        """Whether its value depends on the values of a reference sample of architectures."""
        return False

    @property
    def needs_passes(self) -> bool:
        """Whether its value depends on weights and not on the architecture alone."""
        return True

    @property
    def made_of(self) -> tuple[Indicator, ...]:
        """The indicators that it combines."""
        return ()

    @property
    def recipe(self) -> dict[str, Any]:
        """Further properties, as plain data, in which indicators of one name may differ."""
        return {}

    @property
    def defined_by(self) -> object:
        """The class or function that computes its value."""
        return type(self)

    @property
    def sent(self) -> str | Indicator:
        """Its name, or the indicator itself if other processes may not know the name."""
        return self.name

    def check_conditions(self, conditions: Conditions) -> None:
        """Check that its value is meaningful under some conditions; by default it always is.

        Raises:
            TftasError: It is not.
        """

    def engine(
        self,
        ground: Ground,
        indicators: Sequence[Any],
        *,
        fidelity: str,
        precision: MatmulPrecision,
    ) -> Engine:
        """Return the engine that computes several indicators of this kind together.

        Args:
            ground: The supernet and the images.
            indicators: The indicators, this one first.
            fidelity: The fidelity of all indicators.
            precision: torch's precision of float32 matrix products, for sums over layers.
        """
        raise TftasError(
            f"indicator {self.name!r} is of no kind that can be scored; make it a"
            " LayerIndicator, a NetworkIndicator, a CompositeIndicator or a function"
        )

    def score_network(self, model: nn.Module, view: View) -> float:
        """Score a stand-alone network, in eval mode and with its own weights.

        Args:
            model: The network.
            view: The inputs of the network.
        """
        raise TftasError(f"indicator {self.name!r} cannot score a stand-alone network")

    def explain_network(self, model: nn.Module, view: View) -> list[LayerScore]:
        """Score a stand-alone network layer by layer; see :meth:`score_network`.

        Raises:
            TftasError: The indicator is not a sum over layers.
        """
        self.refuse_layers()

    def refuse_layers(self) -> NoReturn:
        """Raise the error that the indicator is not a sum over layers.

        Raises:
            TftasError: Always.
        """
        raise TftasError(f"indicator {self.name!r} is one number, not a sum over layers")
