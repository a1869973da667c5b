"""The settings of a study."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from tftas_optuna.metrics import cost_names, get_indicator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tftas_optuna.metrics import Bounds, Direction, Target
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.spaces import SearchSpace

# Costs that are computed for every candidate.
ALWAYS: tuple[str, ...] = ("n_params", "macs")


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """Everything that the values of a study depend on.

    Attributes:
        conditions: The conditions of the scores.
        objectives: Names of the objectives, in order.
        directions: The direction of each objective.
        fidelity: The fidelity of the approximated indicators.
        bounds: Lowest and highest allowed value by metric.
        options: Options that differ from those of the registered indicator, by indicator.
        approximated: Indicators computed at ``fidelity``; the others are computed exactly.
        seed: Seed of the sampler; None outside :func:`tftas_optuna.search`.
        population_size: Trials of one generation; None outside :func:`tftas_optuna.search`.
        sampler: Name of the sampler; None outside :func:`tftas_optuna.search`.
        deployment: Device, hardware, batch size and threads for costs that depend on them; None
            if there are none.
        recipes: What fusions and calibrations are made of, by name; None if there are none, or if
            the study was made before recipes were recorded.
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
    recipes: Mapping[str, Any] | None = None

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.conditions.space

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics of every candidate: parameters, MACs, objectives and bounds."""
        return tuple(dict.fromkeys((*ALWAYS, *self.objectives, *self.bounds)))

    @property
    def costs(self) -> tuple[str, ...]:
        """The costs among the metrics."""
        costs = cost_names()
        return tuple(name for name in self.metrics if name in costs)

    @property
    def indicators(self) -> tuple[str, ...]:
        """The indicators among the metrics."""
        costs = cost_names()
        return tuple(name for name in self.metrics if name not in costs)

    @property
    def target(self) -> Target:
        """The sizes and the deployment that costs are computed for."""
        changes = {k: v for k, v in (self.deployment or {}).items() if k != "hardware"}
        return dataclasses.replace(self.conditions.target, **changes)

    def fidelity_of(self, name: str) -> str:
        """Return the fidelity that an indicator is computed at."""
        return self.fidelity if name in self.approximated else "exact"

    def label(self, name: str) -> str:
        """Return the label of a metric: its name, or ``NAME_collapsed`` if approximated."""
        return f"{name}_{self.fidelity}" if name in self.approximated else name

    def attributes(self) -> dict[str, Any]:
        """Return the settings as plain data, without directions, which Optuna stores itself."""
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
            "recipes": None if self.recipes is None else dict(self.recipes),
        }


def recipes_of(indicators: Iterable[str]) -> dict[str, Any] | None:
    """Return the recipes of fusions and calibrations by name; None if there are none."""
    by_name = {i.name: i.recipe for i in map(get_indicator, indicators) if i.recipe}
    plain: dict[str, Any] = json.loads(json.dumps(by_name))
    return plain or None
