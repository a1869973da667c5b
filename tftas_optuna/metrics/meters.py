"""The costs of one study, for its space and target."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import TftasError
from tftas_optuna.metrics.registry import get_cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics.cost import Target
    from tftas_optuna.spaces import SearchSpace


class Meters:
    """Computes costs of architectures by name.

    The constructor does the measurements for a whole space, such as a latency table.

    Args:
        names: Names of the costs.
        space: The search space.
        target: Input, device, batch size and threads.
        records: Records of earlier measurements by name; see :attr:`records`.

    Raises:
        TftasError: A cost does not exist, or the device is not available.
        UnavailableError: A record is damaged.
    """

    def __init__(
        self,
        names: Iterable[str],
        space: SearchSpace,
        target: Target,
        records: Mapping[str, Any] | None = None,
    ) -> None:
        records = records or {}
        self._meters = {
            name: get_cost(name).open(space, target, records.get(name)) for name in names
        }

    def __contains__(self, name: str) -> bool:
        return name in self._meters

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the costs."""
        return tuple(self._meters)

    @property
    def closed_forms(self) -> tuple[str, ...]:
        """The names of the costs that take only microseconds."""
        # Meters of third parties may be older than this attribute.
        return tuple(n for n, m in self._meters.items() if getattr(m, "closed_form", False))

    @property
    def records(self) -> dict[str, Any]:
        """Plain data by name from which meters can be restored, without empty records."""
        return {name: meter.record for name, meter in self._meters.items() if meter.record}

    def cost(self, name: str, arch: Architecture) -> float:
        """Return a cost of an architecture.

        Raises:
            TftasError: The cost is not a finite number.
        """
        value = float(self._meters[name](arch))
        if not math.isfinite(value):
            raise TftasError(
                f"cost {name!r} is {value} for {arch.summary()}, expected a finite number; to rule"
                " an architecture out, return a large one and give a bound"
            )
        return value
