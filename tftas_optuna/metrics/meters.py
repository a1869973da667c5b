"""The costs of one study, made ready for its space and its target."""

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
    """Takes costs of architectures by name.

    What has to be measured for a whole space, such as a latency table, is measured by the
    constructor.

    Args:
        names: The costs.
        space: The space that the architectures come from.
        target: Input, device, batch size and threads.
        records: What was measured before, by name; see :attr:`records`.

    Raises:
        TftasError: A cost does not exist, or the device is not there.
        UnavailableError: A record is damaged.
    """

    def __init__(
        self,
        names: Iterable[str],
        space: SearchSpace,
        target: Target,
        records: Mapping[str, Any] | None = None,
    ) -> None:
        known = records or {}
        self._meters = {
            name: get_cost(name).open(space, target, known.get(name)) for name in names
        }

    def __contains__(self, name: str) -> bool:
        return name in self._meters

    @property
    def names(self) -> tuple[str, ...]:
        """The costs."""
        return tuple(self._meters)

    @property
    def closed_forms(self) -> tuple[str, ...]:
        """The costs that thousands of candidates may be asked for."""
        # An installed cost may bring meters that were written before this was asked of them.
        return tuple(n for n, m in self._meters.items() if getattr(m, "closed_form", False))

    @property
    def records(self) -> dict[str, Any]:
        """Plain data by name that makes the same meters again, where there is any."""
        return {name: meter.record for name, meter in self._meters.items() if meter.record}

    def cost(self, name: str, arch: Architecture) -> float:
        """Take a cost of an architecture.

        Raises:
            TftasError: It is no finite number.
        """
        value = float(self._meters[name](arch))
        if not math.isfinite(value):
            raise TftasError(
                f"cost {name!r} is {value} for {arch.summary()}, expected a finite number; to rule"
                " an architecture out, return a large one and give a bound"
            )
        return value
