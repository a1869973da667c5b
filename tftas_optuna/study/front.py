"""The Pareto front of a study: its trials, its size in objective space, and picks from it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from optuna._hypervolume import compute_hypervolume
from optuna.study import StudyDirection

from tftas_optuna.costs import cost_names
from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics.bounds import COSTS, CostName, direction_of, short
from tftas_optuna.study.accuracy import accuracies
from tftas_optuna.study.settings import StudySettings, architecture_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture


class Candidate(NamedTuple):
    """One trial with the architecture it stands for.

    Attributes:
        trial: Number of the trial.
        architecture: The architecture.
        dss: Its score in the search.
        n_params: Its parameters.
        macs: Its multiply-accumulates per image.
        fidelity: How the search computed scores.
        dss_exact: Its exact score, where the search used an approximation and the trial was on
            its final front.
        top1: Its accuracy in per cent, where it was retrained.
        others: The other objectives and bounded costs, by name.
    """

    trial: int
    architecture: Architecture
    dss: float
    n_params: int
    macs: int
    fidelity: str = "exact"
    dss_exact: float | None = None
    top1: float | None = None
    others: Mapping[str, float] = MappingProxyType({})

    def cost(self, name: CostName) -> float:
        """Give a cost that the study knows.

        Raises:
            UnavailableError: It does not know it.
        """
        if name in COSTS:
            return float(getattr(self, name))
        if name not in self.others:
            known = ", ".join((*COSTS, *self.others))
            raise UnavailableError(f"the study knows no {name} of its candidates; known: {known}")
        return self.others[name]

    def scores(self) -> dict[str, float]:
        """Give the scores by names that say how they were computed: ``dss`` is the exact one."""
        if self.fidelity == "exact":
            return {"dss": self.dss}
        exact = {} if self.dss_exact is None else {"dss": self.dss_exact}
        return {f"dss_{self.fidelity}": self.dss, **exact}


def pareto_front(study: Study) -> list[Candidate]:
    """Give the feasible, undominated architectures of a study, each once, cheapest first.

    Raises:
        UnavailableError: The study was not made by this package.
    """
    settings = StudySettings.read(study)
    if not study.get_trials(deepcopy=False):
        return []
    trials = study.best_trials if len(study.directions) > 1 else _best(study)
    trained = accuracies(study)
    front: dict[Architecture, Candidate] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        candidate = _with_exact(as_candidate(trial, settings), study)
        candidate = candidate._replace(top1=trained.get(candidate.trial))
        front.setdefault(candidate.architecture, candidate)
    return sorted(front.values(), key=lambda candidate: (candidate.n_params, -candidate.dss))


def as_candidate(trial: FrozenTrial, settings: StudySettings) -> Candidate:
    """Decode a finished trial."""
    arch = architecture_of(trial, settings)
    costs = arch.costs(**settings.input)
    measured = dict(zip(settings.metrics, trial.values or (), strict=False))
    dss = measured.get("dss", trial.user_attrs.get("dss"))
    if dss is None:
        raise UnavailableError(f"trial {trial.number} has no value yet; pick a finished one")
    known = {**trial.user_attrs, **measured}
    others = {
        name: float(known[name])
        for name in dict.fromkeys((*settings.metrics, *settings.bounds))
        if name not in ("dss", *COSTS) and name in known
    }
    return Candidate(
        trial.number,
        arch,
        float(dss),
        costs.n_params,
        costs.macs,
        settings.fidelity,
        others=others,
    )


def _with_exact(candidate: Candidate, study: Study) -> Candidate:
    known = study.user_attrs.get("exact_dss", {}) if candidate.fidelity != "exact" else {}
    return candidate._replace(dss_exact=known.get(str(candidate.trial)))


def get_candidate(study: Study, number: int) -> Candidate:
    """Give one trial of a study by its number.

    Raises:
        UnavailableError: There is no such trial, or it has not finished.
    """
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise UnavailableError(
            f"unknown trial {number} in study {study.study_name!r}, which has {len(trials)} trials"
        )
    return _with_exact(as_candidate(trials[number], StudySettings.read(study)), study)


def within(front: Sequence[Candidate], budgets: Mapping[CostName, float]) -> list[Candidate]:
    """Give the part of a front within budgets, by cost name.

    Raises:
        UnavailableError: Nothing of the front is within them, or the study does not know a cost.
    """
    kept = [
        candidate
        for candidate in front
        if all(candidate.cost(name) <= limit for name, limit in budgets.items())
    ]
    if front and not kept:
        limits = " and ".join(f"{name} <= {short(limit)}" for name, limit in budgets.items())
        least = ", ".join(
            f"{name} {short(min(candidate.cost(name) for candidate in front))}" for name in budgets
        )
        raise UnavailableError(f"nothing on the front has {limits}; it begins at {least}")
    return kept


def knee(front: Sequence[Candidate]) -> Candidate:
    """Give the point of a front farthest above the line between its two ends.

    Raises:
        UnavailableError: The front is empty.
    """
    if not front:
        raise UnavailableError("the front is empty; run a search first")
    dss = _normalised([candidate.dss for candidate in front])
    n_params = _normalised([candidate.n_params for candidate in front])
    return front[int(np.argmax(dss - n_params))]


def hypervolume(values: Iterable[Sequence[float]], settings: StudySettings) -> float:
    """Measure what a set of objective values dominates.

    DSS and other indicators count from zero (those to be minimised, from their highest value in
    the front). Costs count as fractions of the range between the space's smallest and largest
    architecture, so a front that reached a score of ``s`` at every cost would have a hypervolume
    of ``s``.

    Args:
        values: Feasible objective values, in the order of the settings' metrics.
        settings: The settings of their study.
    """
    points = np.array([list(point) for point in values], dtype=float)
    if not points.size:
        return 0.0
    reference = np.zeros(len(settings.metrics))
    for i, name in enumerate(settings.metrics):
        sign = -1 if direction_of(name) == "maximize" else 1
        if name in cost_names():
            ends = [settings.cost(name, arch) for arch in _corners(settings)]
            low, high = min(ends), max(ends)
            points[:, i] = (points[:, i] - low) / ((high - low) or 1)
            reference[i] = 1.0 if sign > 0 else 0.0
        elif sign > 0:
            reference[i] = points[:, i].max()
        points[:, i] *= sign
    points = np.minimum(points, reference)
    return float(compute_hypervolume(points, reference))


def _corners(settings: StudySettings) -> tuple[Architecture, Architecture]:
    return settings.space.smallest(), settings.space.largest()


def _normalised(values: Sequence[float]) -> np.ndarray:
    array = np.array(values, dtype=float)
    span = array.max() - array.min()
    return (array - array.min()) / span if span else np.zeros_like(array)


def _best(study: Study) -> list[FrozenTrial]:
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    feasible = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.values and all(value <= 0 for value in trial.constraints.values())
    ]
    return sorted(feasible, key=lambda trial: sign * trial.values[0])[:1]
