"""The settings of a study: everything that its values depend on, as a plain value."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tftas_optuna.metrics import cost_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.metrics import Bounds, Direction, Target
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.spaces import SearchSpace

# Counted for every candidate, whatever is optimised.
ALWAYS: tuple[str, ...] = ("n_params", "macs")


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Everything that the values of a study depend on.

    Attributes:
        conditions: What its scores depend on besides the candidate.
        objectives: Names of the objectives, in order.
        directions: What is better of each.
        fidelity: How the approximated indicators are computed.
        bounds: Lowest and highest allowed value by metric.
        options: Options of indicators that are not the usual ones, by indicator.
        approximated: Indicators that are computed at that fidelity; the others exactly.
        seed: Seed of the sampler; None outside :func:`tftas_optuna.search`.
        population_size: Trials of one generation; None outside :func:`tftas_optuna.search`.
        sampler: Name of the sampler; None outside :func:`tftas_optuna.search`.
        deployment: Device, hardware, batch size and threads of the costs that depend on them;
            None where none does.
    """

    conditions: Conditions
    objectives: tuple[str, ...]
    directions: tuple[Direction, ...]
    fidelity: str = "exact"
    bounds: Bounds = dataclasses.field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    approximated: tuple[str, ...] = ()
    seed: int | None = None
    population_size: int | None = None
    sampler: str | None = None
    deployment: Mapping[str, Any] | None = None

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.conditions.space

    @property
    def measures(self) -> tuple[str, ...]:
        """All metrics that are known of every candidate: objectives, bounds, and the counts."""
        return tuple(dict.fromkeys((*ALWAYS, *self.objectives, *self.bounds)))

    @property
    def costs(self) -> tuple[str, ...]:
        """The costs among the measures."""
        known = cost_names()
        return tuple(name for name in self.measures if name in known)

    @property
    def indicators(self) -> tuple[str, ...]:
        """The indicators among the measures."""
        known = cost_names()
        return tuple(name for name in self.measures if name not in known)

    @property
    def target(self) -> Target:
        """What costs are taken for."""
        told = {k: v for k, v in (self.deployment or {}).items() if k != "hardware"}
        return dataclasses.replace(self.conditions.target, **told)

    def label(self, name: str) -> str:
        """Return what a value of a metric is called: its name, or ``NAME_collapsed``."""
        return f"{name}_{self.fidelity}" if name in self.approximated else name

    def attributes(self) -> dict[str, Any]:
        """Return the settings as plain data, as a study records them; directions apart.

        Optuna keeps directions itself.
        """
        return {
            "space": self.space.name,
            "objectives": list(self.objectives),
            "bounds": {name: list(bound) for name, bound in self.bounds.items()},
            "fidelity": self.fidelity,
            "approximated": list(self.approximated),
            "seed": self.seed,
            **self.conditions.to_dict(),
            "options": {name: dict(values) for name, values in self.options.items()},
            "population_size": self.population_size,
            "sampler": self.sampler,
            "deployment": None if self.deployment is None else dict(self.deployment),
        }
