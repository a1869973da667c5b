"""What an indicator is: a worth of an untrained architecture, in the weights of a supernet."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics.base import Direction, Metric

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self


@dataclasses.dataclass(frozen=True)
class Indicator(Metric):
    """A named worth of an untrained architecture.

    Not for use by itself: an indicator is a :class:`FunctionIndicator`, or folds the layers of
    a pass (:class:`tftas_optuna.indicators.LayerIndicator`). Fields that a subclass adds are its
    options, which :class:`tftas_optuna.Scorer` takes by name.

    Attributes:
        name: What objectives, bounds and scorers call it.
        direction: What is better.
        unit: Unit of its values, mostly empty.
        fidelities: How it can be computed; ``"exact"`` is the first.
    """

    name: str
    direction: Direction = "maximize"
    unit: str = ""
    fidelities: ClassVar[tuple[str, ...]] = ("exact",)

    @property
    def options(self) -> dict[str, Any]:
        """Values of the options by name."""
        own = {field.name for field in dataclasses.fields(self)} - {"name", "direction", "unit"}
        return {name: getattr(self, name) for name in sorted(own - self._hidden)}

    # Fields that are no option.
    _hidden: ClassVar[frozenset[str]] = frozenset()

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


@dataclasses.dataclass(frozen=True)
class FunctionIndicator(Indicator):
    """An indicator as a function of a stand-alone network.

    Attributes:
        score: ``score(model, images) -> float``. The network is in eval mode and has the
            weights of the study's supernet, with their signs; the images are ones, shape
            (1, in_chans, img_size, img_size), on its device. It must return the same value every
            time.
    """

    score: Callable[[Any, Any], float] = dataclasses.field(kw_only=True)
    _hidden: ClassVar[frozenset[str]] = frozenset({"score"})
