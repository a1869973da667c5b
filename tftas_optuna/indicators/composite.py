"""Indicators that are computed from other metrics."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from tftas_optuna.errors import TftasError, did_you_mean
from tftas_optuna.metrics import Indicator, get_cost, get_indicator, metric_names
from tftas_optuna.metrics.registry import cost_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meter, Target
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.networks import View
    from tftas_optuna.spaces import SearchSpace

# Values of the reference sample: for each part, an ascending list for each supernet.
Reference = dict[str, list[list[float]]]


@dataclasses.dataclass(frozen=True)
class CompositeIndicator(Indicator):
    """An indicator that is computed from other metrics of the same candidate.

    It is sent to other processes as a value, so it need not be registered there. Its parts are
    computed exactly, and share passes with the other indicators of a candidate.

    Attributes:
        parts: Names of indicators, and of costs in closed form.
        relative: Whether it compares values with those of a reference sample.
    """

    composite: ClassVar[bool] = True
    parts: tuple[str, ...] = dataclasses.field(kw_only=True)
    relative: bool = dataclasses.field(default=False, kw_only=True)
    _hidden = frozenset({"parts", "relative"})

    @property
    def indicators(self) -> tuple[str, ...]:
        """Names of the parts that are indicators."""
        costs = cost_names()
        return tuple(part for part in self.parts if part not in costs)

    @property
    def made_of(self) -> tuple[Indicator, ...]:
        """The parts that are indicators."""
        return tuple(map(get_indicator, self.indicators))

    @property
    def batches(self) -> int:
        """Number of batches of images that its parts see."""
        return max((part.batches for part in self.made_of), default=0)

    @property
    def labelled(self) -> bool:
        """Whether a part sees labelled images."""
        return any(part.labelled for part in self.made_of)

    @property
    def needs_passes(self) -> bool:
        """Whether a part is an indicator, or there is a reference sample, which needs a seed."""
        return self.relative or bool(self.indicators)

    @property
    def recipe(self) -> dict[str, Any]:
        """Its definition as plain data."""
        return dataclasses.asdict(self)

    @property
    def sent(self) -> CompositeIndicator:
        """The indicator itself, as other processes may not know its name."""
        return self

    def check(self) -> None:
        """Check its parts.

        Raises:
            TftasError: A part does not exist, is listed twice, or is itself a composite indicator.
        """
        for part in self.parts:
            if part not in metric_names():
                hint = did_you_mean(part, metric_names())
                raise TftasError(f"{self.name!r} is made of {part!r}, which does not exist{hint}")
            if part not in cost_names() and get_indicator(part).composite:
                raise TftasError(
                    f"{self.name!r} is made of {part!r}, which is itself made of others; name them"
                )
        if len(set(self.parts)) < len(self.parts):
            raise TftasError(
                f"{self.name!r} is made of {', '.join(self.parts)}: one is there twice"
            )

    def meters(self, space: SearchSpace, target: Target) -> dict[str, Meter]:
        """Return the meters of the costs among its parts, by name.

        Raises:
            TftasError: A cost is not in closed form, or the family does not have it.
        """
        meters = {}
        for part in self.parts:
            if part in cost_names():
                cost = get_cost(part)
                cost.check_family(space.family)
                meter = None if cost.measured else cost.open(space, target, None)
                if meter is None or not getattr(meter, "closed_form", False):
                    raise TftasError(
                        f"{self.name!r} cannot be made of cost {part!r}, which has no closed form"
                    )
                meters[part] = meter
        return meters

    @abstractmethod
    def combine(
        self,
        arch: Architecture,
        values: Mapping[str, float],
        reference: Mapping[str, Sequence[float]],
    ) -> float:
        """Compute the value of a candidate on one supernet.

        Args:
            arch: The candidate.
            values: The values of the parts by name.
            reference: For each part, the values of the reference sample on the same supernet,
                ascending; empty unless the indicator is relative.
        """

    def score_network(self, model: nn.Module, view: View) -> float:
        """Refuse, as it is computed for a candidate of a search space.

        Raises:
            TftasError: Always.
        """
        raise TftasError(
            f"indicator {self.name!r} is computed for a candidate of a search space, not for a"
            f" network alone; score its parts: {', '.join(self.parts)}"
        )

    def explain_network(self, model: nn.Module, view: View) -> list[LayerScore]:
        """Refuse, as :meth:`score_network` does.

        Raises:
            TftasError: Always.
        """
        self.score_network(model, view)
        return []
