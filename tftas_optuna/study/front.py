"""The Pareto front of a study: its trials, and the architectures they stand for."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection

from tftas_optuna.errors import UnavailableError
from tftas_optuna.study._optuna import front_of
from tftas_optuna.study.accuracy import choose_trainings
from tftas_optuna.study.attributes import attributes
from tftas_optuna.study.legacy import upgraded
from tftas_optuna.study.own import failure_of, own_trials, said_numbers, why_foreign
from tftas_optuna.study.record import read_settings
from tftas_optuna.study.settings import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial
    from torch import nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.study.settings import StudySettings

EXACT = "exact"
AGREEMENT = "exact_agreement"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One trial with the architecture it stands for.

    Attributes:
        trial: Number of the trial.
        architecture: The architecture.
        values: Its metrics by name: the objectives first, then bounded metrics, parameters and
            MACs. Of an approximated indicator, what the search computed.
        exact: The exact values of approximated indicators, as far as they were computed.
        fidelity: How the approximated indicators were computed.
        approximated: Names of those indicators.
        top1: Its accuracy in per cent, where it was retrained; the mean over several seeds.
        top1_sd: The standard deviation over those seeds.
        trained: What the conditions of its trainings are called.
        sizes: ``img_size``, ``num_classes`` and ``in_chans`` that the study was searched for.
    """

    trial: int
    architecture: Architecture
    values: Mapping[str, float]
    exact: Mapping[str, float] = dataclasses.field(default_factory=dict)
    fidelity: str = "exact"
    approximated: tuple[str, ...] = ()
    top1: float | None = None
    top1_sd: float | None = None
    trained: str | None = None
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def n_params(self) -> int:
        """Its parameters."""
        return int(self.values["n_params"])

    @property
    def macs(self) -> int:
        """Its multiply-accumulates per image."""
        return int(self.values["macs"])

    def build(self, **kwargs: Any) -> nn.Module:
        """Build its stand-alone network, with fresh weights.

        It takes images of the study's size and channels, and tells the study's classes apart.

        Args:
            **kwargs: timm's model arguments, such as ``drop_path_rate``; ``num_classes``,
                ``img_size`` and ``in_chans`` take the place of the study's own.

        Returns:
            A module with timm's interface; see :func:`tftas_optuna.build_model`.
        """
        # timm and PyTorch take seconds to load, and a front is read without them.
        from tftas_optuna.models import build_model

        return build_model(self.architecture, **{**self.sizes, **kwargs})

    def value(self, name: str) -> float:
        """Look up a metric that the study knows.

        Raises:
            UnavailableError: It does not know it.
        """
        if name not in self.values:
            raise UnavailableError(
                f"the study knows no {name} of its candidates; known: {', '.join(self.values)}"
            )
        return self.values[name]

    def named_values(self) -> dict[str, float]:
        """Return all metrics by names that say how they were computed.

        ``NAME`` is an exact value, ``NAME_collapsed`` an approximation of it.
        """
        named: dict[str, float] = {}
        for name, value in self.values.items():
            if name not in self.approximated:
                named[name] = int(value) if name in ALWAYS else value
                continue
            named[f"{name}_{self.fidelity}"] = value
            if name in self.exact:
                named[name] = self.exact[name]
        return named


def pareto_front(study: Study, *, trained: str | None = None) -> list[Candidate]:
    """List the feasible, undominated architectures of a study, each once, cheapest first.

    Args:
        study: The study.
        trained: Which accuracies they have: the key of the conditions that they were trained
            under; by default of those that most trials were.

    Raises:
        TftasError: Nothing was trained under such conditions.
        UnavailableError: The study was not made by this package.
    """
    settings = read_settings(study)
    own = own_trials(study, settings)
    trials = front_of(own, study.directions) if len(study.directions) > 1 else _best(study, own)
    reader = _Reader(study, settings, trained)
    front: dict[Architecture, Candidate] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        candidate = reader.read(trial)
        front.setdefault(candidate.architecture, candidate)
    return sorted(front.values(), key=lambda c: (c.n_params, *losses(c, settings)))


def get_candidate(study: Study, number: int, *, trained: str | None = None) -> Candidate:
    """Look up one trial of a study by its number.

    Args:
        study: The study.
        number: Number of the trial.
        trained: Which accuracy it has; see :func:`pareto_front`.

    Raises:
        TftasError: Nothing was trained under such conditions.
        UnavailableError: There is no such trial, it has no value, or it stands for no architecture
            of the study.
    """
    settings = read_settings(study)
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        raise UnavailableError(
            f"unknown trial {number} in study {study.study_name!r}, which has {len(trials)} trials"
        )
    if (failure := failure_of(trials[number])) is not None:
        raise UnavailableError(f"trial {number} has no score: {failure}; pick another")
    if (reason := why_foreign(trials[number], settings)) is not None:
        raise UnavailableError(
            f"trial {number} of study {study.study_name!r} is no architecture of its space"
            f" ({reason}); pick another"
        )
    return _Reader(study, settings, trained).read(trials[number])


def without_accuracies(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates as if nothing was trained."""
    return [dataclasses.replace(one, top1=None, top1_sd=None, trained=None) for one in candidates]


def known_values(trial: FrozenTrial, settings: StudySettings) -> dict[str, float]:
    """Return the numbers that a finished trial says by name, its objectives among it.

    Raises:
        UnavailableError: It has not finished.
    """
    if trial.values is None:
        raise UnavailableError(f"trial {trial.number} has no value yet; pick a finished one")
    return {**said_numbers(trial), **dict(zip(settings.objectives, trial.values, strict=True))}


def losses(candidate: Candidate, settings: StudySettings) -> tuple[float, ...]:
    """Return the objectives of a candidate with signs by which less is better."""
    return tuple(
        candidate.values[name] * (-1 if direction == "maximize" else 1)
        for name, direction in zip(settings.objectives, settings.directions, strict=True)
    )


class _Reader:
    """Turns the trials of one study into candidates.

    Args:
        study: The study.
        settings: Its settings.
        trained: Which accuracies they have.
    """

    def __init__(self, study: Study, settings: StudySettings, trained: str | None) -> None:
        self._settings = settings
        self._trained = choose_trainings(study, trained)
        self._exact = exact_values(study)
        self._names = dict.fromkeys((*settings.objectives, *settings.bounds, *ALWAYS))

    def read(self, trial: FrozenTrial) -> Candidate:
        settings = self._settings
        known = known_values(trial, settings)
        arch = settings.space.decode(trial.params)
        costs = arch.costs(**settings.target.input)
        known |= {name: float(count) for name, count in costs._asdict().items()}
        key = str(trial.number)
        chosen = self._trained
        if chosen is not None and trial.number not in chosen.records:
            chosen = None
        return Candidate(
            trial=trial.number,
            architecture=arch,
            values={name: float(known[name]) for name in self._names if name in known},
            exact={name: found[key] for name, found in self._exact.items() if key in found},
            fidelity=settings.fidelity,
            approximated=settings.approximated,
            top1=None if chosen is None else chosen.top1(trial.number),
            top1_sd=None if chosen is None else chosen.sd(trial.number),
            trained=None if chosen is None else chosen.key,
            sizes=settings.target.input,
        )


def exact_values(study: Study) -> dict[str, dict[str, float]]:
    """Return the exact values that a study keeps: by indicator, then by trial number."""
    told = attributes(study)
    if EXACT not in told and "record_version" not in told:
        told = upgraded(told, study.metric_names or [])
    return {name: dict(found) for name, found in told.get(EXACT, {}).items()}


def _best(study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    feasible = [
        trial for trial in trials if all(value <= 0 for value in trial.constraints.values())
    ]
    return sorted(feasible, key=lambda trial: sign * trial.values[0])[:1]
