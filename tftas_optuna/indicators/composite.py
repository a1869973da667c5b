"""Indicators that are made of other metrics."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import Indicator, get_cost, get_indicator, metric_names
from tftas_optuna.metrics.registry import cost_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meter, Target
    from tftas_optuna.spaces import SearchSpace

# Values of the reference sample, ascending: by part those of every supernet.
Reference = dict[str, list[list[float]]]


class Conditions(NamedTuple):
    """What the value of an indicator depends on besides the candidate."""

    space: SearchSpace
    supernet_seed: int
    n_seeds: int
    img_size: int
    num_classes: int
    n_images: int | None
    pictures: str | None

    def plain(self) -> dict[str, Any]:
        """Return all but the space as plain data."""
        return {name: value for name, value in self._asdict().items() if name != "space"}


@dataclasses.dataclass(frozen=True)
class CompositeIndicator(Indicator):
    """An indicator that is computed from other metrics of the same candidate.

    It travels to other processes as it is, so that those need not know its name. Its parts are
    computed exactly, with all else that is computed of a candidate in the same passes.

    Attributes:
        parts: Names of indicators, and of costs in closed form.
        relative: Whether it looks at where a value lies among those of a reference sample.
    """

    parts: tuple[str, ...] = dataclasses.field(kw_only=True)
    relative: bool = dataclasses.field(default=False, kw_only=True)
    _hidden = frozenset({"parts", "relative"})

    @property
    def indicators(self) -> tuple[str, ...]:
        """The parts that need passes."""
        costs = cost_names()
        return tuple(part for part in self.parts if part not in costs)

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
            if part not in cost_names() and isinstance(get_indicator(part), CompositeIndicator):
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

    def check_conditions(self, conditions: Conditions) -> None:
        """Check that its value would mean what it says; by default it always does.

        Raises:
            TftasError: It would not.
        """

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
