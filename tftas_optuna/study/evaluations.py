"""What is known of the architectures of a study, each computed once."""

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
    """What is known of one architecture.

    Attributes:
        values: The objectives, in their order; all NaN where it has no score.
        attributes: Measures that are no objective, by name; the standard deviation of an
            indicator over several supernets is ``NAME_sd``.
        violations: Relative excess over each bound; zero or less is feasible. Of one without a
            score there are none.
        failure: Why it has no score; None where it has one.
    """

    values: tuple[float, ...]
    attributes: dict[str, float]
    violations: dict[str, float]
    failure: str | None = None


class Evaluations:
    """Scores by architecture, and the evaluations that follow from them.

    Args:
        settings: The study.
        meters: Its costs.

    Attributes:
        meters: The same.
    """

    def __init__(self, settings: StudySettings, meters: Meters) -> None:
        self._settings = settings
        self.meters = meters
        self._known: dict[Architecture, dict[str, float]] = {}
        self._failures: dict[Architecture, str] = {}

    def __contains__(self, arch: Architecture) -> bool:
        return arch in self._known

    def add(self, arch: Architecture, scores: Scores) -> None:
        """Take the scores of an architecture."""
        finite = {name: by_seed for name, by_seed in scores.items() if name not in scores.gaps}
        known = {name: mean(by_seed) for name, by_seed in finite.items()}
        if self._settings.conditions.n_seeds > 1:
            known |= {f"{name}_sd": stdev(by_seed) for name, by_seed in finite.items()}
        self._known[arch] = known
        if scores.gaps:
            self._failures[arch] = "; ".join(dict.fromkeys(scores.gaps.values()))

    def remember(
        self, arch: Architecture, known: Mapping[str, float], failure: str | None = None
    ) -> None:
        """Take what a finished trial says: indicators, their spreads, and measured costs.

        Args:
            arch: Its architecture.
            known: What it says, by name.
            failure: Why it has no score, if it has none.
        """
        if failure is not None:
            self._failures[arch] = failure
        elif any(name not in known for name in self._settings.indicators):
            return  # stored by other means; it is scored when it comes again
        wanted = {*self._settings.measures, *(f"{name}_sd" for name in self._settings.indicators)}
        self._known[arch] = {name: value for name, value in known.items() if name in wanted}

    def __getitem__(self, arch: Architecture) -> Evaluation:
        settings = self._settings
        known = self._known[arch]
        failure = self._failures.get(arch)
        # To measure an architecture that has no score would take time for nothing.
        for name in settings.costs if failure is None else self.meters.closed_forms:
            # Of what is measured for each architecture by itself, the first time stays.
            if name not in known:
                known[name] = self.meters.cost(name, arch)
        if failure is not None:
            return Evaluation((math.nan,) * len(settings.objectives), dict(known), {}, failure)
        attributes = {n: v for n, v in known.items() if n not in settings.objectives}
        return Evaluation(
            values=tuple(float(known[name]) for name in settings.objectives),
            attributes=attributes,
            violations=violations(known.__getitem__, settings.bounds),
        )
