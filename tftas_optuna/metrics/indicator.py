"""What an indicator is: a worth of an untrained architecture, in the weights of a supernet."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from tftas_optuna.errors import TftasError
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
    """Scores candidates of one supernet by several indicators of one kind."""

    batch_size: int

    def prepare(self) -> None:
        """Draw what the first score would wait for."""

    def batch(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Score candidates, in their order; each by every indicator."""

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Score one candidate layer by layer by the first indicator, in forward order."""


@dataclasses.dataclass(frozen=True)
class Indicator(Metric):
    """A named worth of an untrained architecture.

    Not for use by itself: a subclass is a kind of indicator. It says what its indicators see and
    how they may be computed, and brings the engine that computes them; nobody else asks what kind
    an indicator is. The kinds of this package are :class:`FunctionIndicator`,
    :class:`tftas_optuna.indicators.LayerIndicator`,
    :class:`tftas_optuna.indicators.NetworkIndicator` and
    :class:`tftas_optuna.indicators.CompositeIndicator`. Fields that a subclass adds are its
    options, which :class:`tftas_optuna.Scorer` takes by name.

    Attributes:
        name: What objectives, bounds and scorers call it.
        direction: What is better.
        unit: Unit of its values, mostly empty.
        fidelities: How it can be computed; ``"exact"`` is the first.
        sums_layers: Whether it is a sum over the layers of a pass that takes many candidates at
            once, with any precision of matrix products.
        composite: Whether it is made of other metrics; see
            :class:`tftas_optuna.indicators.CompositeIndicator`.
        replaceable: Whether a later indicator may take its name.
    """

    name: str
    direction: Direction = "maximize"
    unit: str = ""
    fidelities: ClassVar[tuple[str, ...]] = ("exact",)
    sums_layers: ClassVar[bool] = False
    composite: ClassVar[bool] = False
    replaceable: ClassVar[bool] = False

    # Fields that are no option.
    _hidden: ClassVar[frozenset[str]] = frozenset()

    @property
    def options(self) -> dict[str, Any]:
        """Values of the options by name."""
        own = {field.name for field in dataclasses.fields(self)} - {"name", "direction", "unit"}
        return {name: getattr(self, name) for name in sorted(own - self._hidden)}

    def with_options(self, **options: Any) -> Self:
        """Return the same indicator with other values of its options.

        Raises:
            TftasError: It has no such option.
        """
        unknown = [name for name in options if name not in self.options]
        if unknown:
            known = ", ".join(self.options) or "none"
            raise TftasError(
                f"indicator {self.name!r} has no option {unknown[0]}; it has: {known}"
            )
        return dataclasses.replace(self, **options)

    def check_fidelity(self, fidelity: str) -> None:
        """Check that it can be computed at a fidelity.

        Raises:
            TftasError: It cannot.
        """
        if fidelity not in self.fidelities:
            raise TftasError(
                f"indicator {self.name!r} has no fidelity {fidelity!r}; it has:"
                f" {', '.join(self.fidelities)}"
            )

    def fidelity_for(self, fidelity: str) -> str:
        """Return the fidelity it is computed at where one is asked for: that one, or exact."""
        return fidelity if fidelity in self.fidelities else "exact"

    @property
    def batches(self) -> int:
        """Batches of images that it sees; 0 for an indicator that sees none."""
        return 0

    @property
    def side_by_side(self) -> bool:
        """Whether several threads may compute it at the same time."""
        return False

    @property
    def relative(self) -> bool:
        """Whether it looks at where a value lies among those of a reference sample."""
        return False

    @property
    def needs_passes(self) -> bool:
        """Whether its value depends on weights; if not, on the architecture alone."""
        return True

    @property
    def made_of(self) -> tuple[Indicator, ...]:
        """The indicators that it is made of."""
        return ()

    @property
    def recipe(self) -> dict[str, Any]:
        """What two indicators of one name may differ in beside their options, as plain data."""
        return {}

    @property
    def defined_by(self) -> object:
        """The class or function whose code decides its value."""
        return type(self)

    @property
    def sent(self) -> str | Indicator:
        """What a task says of it: its name, or itself where other processes may not know it."""
        return self.name

    def check_conditions(self, conditions: Conditions) -> None:
        """Check that its value would mean what it says; by default it always does.

        Raises:
            TftasError: It would not.
        """

    def engine(
        self,
        ground: Ground,
        indicators: Sequence[Any],
        *,
        fidelity: str,
        precision: MatmulPrecision,
    ) -> Engine:
        """Make the engine that computes several indicators of this kind together.

        Args:
            ground: The supernet, and the images that are seen with it.
            indicators: The indicators, this one first.
            fidelity: How to compute them.
            precision: torch's precision of float32 matrix products, where they are sums over
                layers.
        """
        raise TftasError(
            f"indicator {self.name!r} is of no kind that can be scored; make it a"
            " LayerIndicator, a NetworkIndicator, a CompositeIndicator or a function"
        )

    def score_network(self, model: nn.Module, view: View) -> float:
        """Score a stand-alone network, in eval mode, with the weights it has.

        Args:
            model: The network.
            view: What it is shown.
        """
        raise TftasError(f"indicator {self.name!r} does not score networks of other makes")

    def explain_network(self, model: nn.Module, view: View) -> list[LayerScore]:
        """Score a stand-alone network layer by layer; see :meth:`score_network`.

        Raises:
            TftasError: It is no sum over layers.
        """
        self.refuse_layers()

    def refuse_layers(self) -> NoReturn:
        """Say that it cannot be told layer by layer.

        Raises:
            TftasError: Always.
        """
        raise TftasError(f"indicator {self.name!r} is one number, not a sum over layers")
