"""Indicators that are made of other metrics."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from tftas_optuna.errors import TftasError
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

# Values of the reference sample, ascending: by part those of every supernet.
Reference = dict[str, list[list[float]]]


@dataclasses.dataclass(frozen=True)
class CompositeIndicator(Indicator):
    """An indicator that is computed from other metrics of the same candidate.

    It travels to other processes as it is, so that those need not know its name. Its parts are
    computed exactly, with all else that is computed of a candidate in the same passes.

    Attributes:
        parts: Names of indicators, and of costs in closed form.
        relative: Whether it looks at where a value lies among those of a reference sample.
    """

    composite: ClassVar[bool] = True
    parts: tuple[str, ...] = dataclasses.field(kw_only=True)
    relative: bool = dataclasses.field(default=False, kw_only=True)
    _hidden = frozenset({"parts", "relative"})

    @property
    def indicators(self) -> tuple[str, ...]:
        """The parts that need passes."""
        costs = cost_names()
        return tuple(part for part in self.parts if part not in costs)

    @property
    def made_of(self) -> tuple[Indicator, ...]:
        """The parts that need passes, looked up by their names."""
        return tuple(map(get_indicator, self.indicators))

    @property
    def batches(self) -> int:
        """Batches of images that its parts see."""
        return max((part.batches for part in self.made_of), default=0)

    @property
    def needs_passes(self) -> bool:
        """Whether it has a part that does, or a reference sample, which a seed draws."""
        return self.relative or bool(self.indicators)

    @property
    def recipe(self) -> dict[str, Any]:
        """All that it is made of, as plain data."""
        return dataclasses.asdict(self)

    @property
    def sent(self) -> CompositeIndicator:
        """Itself: other processes need not know its name."""
        return self

    def check(self) -> None:
        """Check that its parts can be parts.

        Raises:
            TftasError: One does not exist, stands there twice, or is itself made of others.
        """
        for part in self.parts:
            if part not in metric_names():
                known = ", ".join(metric_names())
                raise TftasError(
                    f"{self.name!r} is made of {part!r}, which does not exist; known: {known}"
                )
            if part not in cost_names() and get_indicator(part).composite:
                raise TftasError(
                    f"{self.name!r} is made of {part!r}, which is itself made of others; name them"
                )
        if len(set(self.parts)) < len(self.parts):
            raise TftasError(
                f"{self.name!r} is made of {', '.join(self.parts)}: one is there twice"
            )

    def meters(self, space: SearchSpace, target: Target) -> dict[str, Meter]:
        """Make the costs among its parts ready.

        Raises:
            TftasError: One is not in closed form, or the family does not have it.
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
        """Compute its value.

        Args:
            arch: The candidate.
            values: Its parts by name, on one supernet.
            reference: Of each part the values of the reference sample on the same supernet,
                ascending; empty unless it is relative.
        """

    def score_network(self, model: nn.Module, view: View) -> float:
        """Refuse: a single network has no place in a search space.

        Raises:
            TftasError: Always.
        """
        raise TftasError(
            f"indicator {self.name!r} is a candidate's place in a search space, which a single"
            f" network has not; score its parts: {', '.join(self.parts)}"
        )

    def explain_network(self, model: nn.Module, view: View) -> list[LayerScore]:
        """Refuse, as :meth:`score_network` does.

        Raises:
            TftasError: Always.
        """
        self.score_network(model, view)
        return []
