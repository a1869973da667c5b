"""Evaluations of the architectures of a study, each computed once."""

from __future__ import annotations

import dataclasses
import math
from statistics import mean, stdev
from typing import TYPE_CHECKING

from tftas_optuna.metrics import violations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meters
    from tftas_optuna.scoring.panel import Scores
    from tftas_optuna.study.settings import StudySettings


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of one architecture.

    Attributes:
        values: The objectives, in their order; all NaN if the architecture has no score.
        attributes: Metrics that are not objectives, by name; ``NAME_sd`` is the standard
            deviation of an indicator over several supernets.
        violations: Relative excess over each bound; zero or less is feasible. Empty if the
            architecture has no score.
        failure: The reason why it has no score; None if it has one.
    """

    values: tuple[float, ...]
    attributes: dict[str, float]
    violations: dict[str, float]
    failure: str | None = None


class Evaluations:
    """Evaluations by architecture, made from scores and costs.

    Args:
        settings: The settings of the study.
        meters: The costs of the study.

    Attributes:
        meters: The costs of the study.
    """

    def __init__(self, settings: StudySettings, meters: Meters) -> None:
        self._settings = settings
        self._costs = settings.costs
        self.meters = meters
        self._metrics: dict[Architecture, dict[str, float]] = {}
        self._failures: dict[Architecture, str] = {}

    def __len__(self) -> int:
        return len(self._metrics)

    def __contains__(self, arch: Architecture) -> bool:
        return arch in self._metrics

    def add(self, arch: Architecture, scores: Scores) -> None:
        """Add the scores of an architecture."""
        finite = {name: by_seed for name, by_seed in scores.items() if name not in scores.gaps}
        metrics = {name: mean(by_seed) for name, by_seed in finite.items()}
        if self._settings.conditions.n_seeds > 1:
            metrics |= {f"{name}_sd": stdev(by_seed) for name, by_seed in finite.items()}
        self._metrics[arch] = metrics
        if scores.gaps:
            self._failures[arch] = "; ".join(dict.fromkeys(scores.gaps.values()))

    def remember(
        self, arch: Architecture, values: Mapping[str, float], failure: str | None = None
    ) -> None:
        """Add the values of a finished trial: indicators, their deviations, and measured costs.

        Args:
            arch: The architecture of the trial.
            values: The values by name.
            failure: The reason why it has no score, if it has none.
        """
        if failure is not None:
            self._failures[arch] = failure
        elif any(name not in values for name in self._settings.indicators):
            return  # Another program stored the trial: score it when it is proposed again.
        names = {*self._settings.metrics, *(f"{name}_sd" for name in self._settings.indicators)}
        self._metrics[arch] = {name: value for name, value in values.items() if name in names}

    def __getitem__(self, arch: Architecture) -> Evaluation:
        settings = self._settings
        metrics = self._metrics[arch]
        failure = self._failures.get(arch)
        # Measuring an architecture without a score would waste time.
        for name in self._costs if failure is None else self.meters.closed_forms:
            # A cost that was measured for this architecture is not measured again.
            if name not in metrics:
                metrics[name] = self.meters.cost(name, arch)
        if failure is not None:
            return Evaluation((math.nan,) * len(settings.objectives), dict(metrics), {}, failure)
        attributes = {n: v for n, v in metrics.items() if n not in settings.objectives}
        return Evaluation(
            values=tuple(float(metrics[name]) for name in settings.objectives),
            attributes=attributes,
            violations=violations(metrics.__getitem__, settings.bounds),
        )
