"""What a study knows of architectures before trying them: features, closed-form costs, bounds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tftas_optuna.metrics import Meters, violations
from tftas_optuna.samplers import Known, KnownTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from tftas_optuna.study.settings import StudySettings


class ArchitectureKnowledge:
    """Computes for a sampler what is known of an architecture without scoring it.

    Args:
        settings: The settings of the study.
        meters: The costs of the study; only those in closed form are used.
    """

    def __init__(self, settings: StudySettings, meters: Meters) -> None:
        self._settings = settings
        self._space = settings.space
        self._meters = meters
        closed = set(meters.closed_forms)
        self._objectives = {i: n for i, n in enumerate(settings.objectives) if n in closed}
        self._bounds = {n: bound for n, bound in settings.bounds.items() if n in closed}
        self._names = list(dict.fromkeys((*self._objectives.values(), *self._bounds)))
        self._tables = {n: settings.space.tabulate(partial(meters.cost, n)) for n in self._names}

    def __reduce__(self) -> tuple[Any, ...]:
        # Meters hold closures, which cannot be pickled; their records can.
        return _rebuild, (self._settings, self._meters.records)

    def __call__(self, params: Mapping[str, Any]) -> Known:
        """Return what is known of the parameters of a trial.

        Raises:
            TftasError: A parameter of the space is missing, or its value is not a choice.
        """
        arch = self._space.decode(params)
        costs = {name: self._meters.cost(name, arch) for name in self._names}
        return Known(
            self._space.features(arch),
            {i: costs[name] for i, name in self._objectives.items()},
            violations(costs.__getitem__, self._bounds),
        )

    def many(self, choices: Mapping[str, NDArray[np.int64]]) -> KnownTable:
        """Return what is known of many candidates, as :class:`tftas_optuna.samplers.ManyKnown`."""
        costs = {name: table(choices) for name, table in self._tables.items()}
        return KnownTable(
            self._space.features_of(choices),
            {i: costs[name] for i, name in self._objectives.items()},
            violations(costs.__getitem__, self._bounds),
        )


def _rebuild(settings: StudySettings, records: Mapping[str, Any]) -> ArchitectureKnowledge:
    meters = Meters(settings.costs, settings.space, settings.target, records)
    return ArchitectureKnowledge(settings, meters)
