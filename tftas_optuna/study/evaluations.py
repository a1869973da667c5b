"""What is known of the architectures of a study, each computed once."""

from __future__ import annotations

from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.study.metrics import COSTS, violations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.study.settings import StudySettings


class Evaluation(NamedTuple):
    """What is known of one architecture.

    Attributes:
        values: The objectives, in the order of the metrics.
        attributes: Measures that are no objective; the standard deviation of DSS over the
            supernets among them, where there are several.
        violations: Relative excess over each bound; zero or less is feasible.
    """

    values: tuple[float, ...]
    attributes: dict[str, float]
    violations: dict[str, float]


class Evaluations:
    """Scores by architecture, and the evaluations that follow from them.

    Args:
        settings: The study.
    """

    def __init__(self, settings: StudySettings) -> None:
        self._settings = settings
        self._scores: dict[Architecture, float] = {}
        self._spreads: dict[Architecture, float] = {}

    def __contains__(self, arch: Architecture) -> bool:
        return arch in self._scores

    def add(self, arch: Architecture, scores: Sequence[float]) -> None:
        """Take the scores of an architecture, one for each supernet."""
        spread = stdev(scores) if len(scores) > 1 else None
        self.remember(arch, mean(scores), spread)

    def remember(self, arch: Architecture, score: float, spread: float | None) -> None:
        """Take a score, and its standard deviation over the supernets."""
        self._scores[arch] = score
        if spread is not None:
            self._spreads[arch] = spread

    def __getitem__(self, arch: Architecture) -> Evaluation:
        settings = self._settings
        sizes = {"img_size": settings.img_size, "num_classes": settings.num_classes}
        costs = arch.costs(**sizes)
        measured: dict[str, float] = {"dss": self._scores[arch]}
        if arch in self._spreads:
            measured["dss_sd"] = self._spreads[arch]
        measured.update({name: getattr(costs, name) for name in COSTS})
        return Evaluation(
            values=tuple(float(measured.pop(name)) for name in settings.metrics),
            attributes=measured,
            violations=violations(arch, settings.bounds, **sizes),
        )
