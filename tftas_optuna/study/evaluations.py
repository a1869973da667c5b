"""What is known of the architectures of a study, each computed once."""

from __future__ import annotations

from statistics import mean, stdev
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.metrics.bounds import violations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        self.settings = settings
        self._scores: dict[Architecture, float] = {}
        self._spreads: dict[Architecture, float] = {}
        self._others: dict[Architecture, dict[str, float]] = {}

    def __contains__(self, arch: Architecture) -> bool:
        return arch in self._scores

    def add(self, arch: Architecture, scores: Sequence[float]) -> None:
        """Take the scores of an architecture.

        Args:
            arch: The architecture.
            scores: DSS on each supernet, then each indicator of the user on each supernet.
        """
        n_seeds = self.settings.n_seeds
        first = scores[:n_seeds]
        others = {
            name: mean(scores[(i + 1) * n_seeds : (i + 2) * n_seeds])
            for i, name in enumerate(self.settings.own_indicators)
        }
        self.remember(arch, mean(first), stdev(first) if n_seeds > 1 else None, others)

    def remember(
        self, arch: Architecture, score: float, spread: float | None, others: Mapping[str, float]
    ) -> None:
        """Take what is known already.

        Args:
            arch: The architecture.
            score: Its DSS.
            spread: Standard deviation of that over the supernets, where there are several.
            others: Indicators of the user and measured costs, by name.
        """
        self._scores[arch] = score
        self._others[arch] = dict(others)
        if spread is not None:
            self._spreads[arch] = spread

    def __getitem__(self, arch: Architecture) -> Evaluation:
        settings = self.settings
        measured: dict[str, float] = {"dss": self._scores[arch]}
        if arch in self._spreads:
            measured["dss_sd"] = self._spreads[arch]
        others = self._others[arch]
        for name in settings.costs:
            # Of what is measured for each architecture by itself, the first time stays.
            if name not in others:
                others[name] = settings.cost(name, arch)
            measured[name] = others[name]
        measured.update({name: others[name] for name in settings.own_indicators})
        excess = violations(measured.__getitem__, settings.bounds)
        return Evaluation(
            values=tuple(float(measured.pop(name)) for name in settings.metrics),
            attributes=measured,
            violations=excess,
        )
