"""The Pareto front of a study, and its trials as candidates."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection

from tftas_optuna._given import listed, shown
from tftas_optuna._html import html_table, number
from tftas_optuna.errors import TftasError, UnavailableError, did_you_mean
from tftas_optuna.study._optuna import front_of
from tftas_optuna.study.accuracy import choose_trainings
from tftas_optuna.study.attributes import attributes
from tftas_optuna.study.held_out import HELD_OUT, read_held_out
from tftas_optuna.study.legacy import upgraded
from tftas_optuna.study.own import failure_of, numeric_attributes, own_trials, why_foreign
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


@dataclasses.dataclass(frozen=True, repr=False)
class Candidate:
    """A trial and its architecture.

    Attributes:
        trial: Number of the trial.
        architecture: The architecture.
        values: The metrics by name: objectives first, then bounded metrics, parameters and MACs.
            Approximated indicators have their approximate value here.
        exact: The exact values of approximated indicators, if they were computed.
        fidelity: The fidelity of the approximated indicators.
        approximated: Names of the approximated indicators.
        top1: The accuracy in per cent if it was retrained, averaged over its seeds; else None.
        top1_sd: The standard deviation over the seeds; None for fewer than two.
        trained: The key of the conditions of its trainings.
        shared_top1: The accuracy in per cent with the weights of a supernet that was trained for
            several members, averaged over its seeds; else None.
        shared: The key of the conditions of that training.
        sizes: ``img_size``, ``num_classes`` and ``in_chans`` of the study.
        held_out: Its accuracy in per cent, as a slice of the study's trained supernet, on images
            that no objective saw; None if it was not computed.
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
    shared_top1: float | None = None
    shared: str | None = None
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    held_out: float | None = None

    def __repr__(self) -> str:
        facts = {name: number(value) for name, value in self.named_values().items()}
        facts |= {
            name: f"{top1:.2f} %"
            for name, top1 in (("top-1", self.top1), ("shared top-1", self.shared_top1))
            if top1 is not None
        }
        values = ", ".join(f"{name} {value}" for name, value in facts.items())
        return f"<Candidate, trial {self.trial}: {self.architecture.summary()}; {values}>"

    @property
    def n_params(self) -> int:
        """Its number of parameters."""
        return int(self.values["n_params"])

    @property
    def macs(self) -> int:
        """Its multiply-accumulates per image."""
        return int(self.values["macs"])

    def build(self, **kwargs: Any) -> nn.Module:
        """Build its stand-alone network with fresh weights, for the study's images and classes.

        Args:
            **kwargs: timm's model arguments, such as ``drop_path_rate``; ``num_classes``,
                ``img_size`` and ``in_chans`` replace those of the study.

        Returns:
            A module with timm's interface; see :func:`tftas_optuna.build_model`.
        """
        # Reading a front must not load timm and PyTorch, which takes seconds.
        from tftas_optuna.models import build_model

        return build_model(self.architecture, **{**self.sizes, **kwargs})

    def value(self, name: str) -> float:
        """Return the value of a metric.

        Raises:
            UnavailableError: The study does not have this metric.
        """
        if name not in self.values:
            raise UnavailableError(
                f"the study knows no {name} of its candidates{did_you_mean(name, self.values)}"
            )
        return self.values[name]

    def named_values(self) -> dict[str, float]:
        """Return all metrics, exact ones as ``NAME`` and approximations as ``NAME_collapsed``."""
        named: dict[str, float] = {}
        for name, value in self.values.items():
            if name not in self.approximated:
                named[name] = value
                continue
            named[f"{name}_{self.fidelity}"] = value
            if name in self.exact:
                named[name] = self.exact[name]
        if self.held_out is not None:
            named[HELD_OUT] = self.held_out
        return named


def value_names(candidates: Iterable[Candidate]) -> list[str]:
    """Return the names of all values of candidates, in their order; some may lack exact ones."""
    named = sorted((candidate.named_values() for candidate in candidates), key=len, reverse=True)
    return list(dict.fromkeys(name for values in named for name in values))


class Front(list[Candidate]):
    """Candidates, which notebooks show as a table."""

    def _repr_html_(self) -> str:
        rows = [candidate.named_values() for candidate in self]
        names = value_names(self)
        accuracies = [
            (heading, attribute)
            for heading, attribute in (("top-1 %", "top1"), ("shared top-1 %", "shared_top1"))
            if any(getattr(candidate, attribute) is not None for candidate in self)
        ]
        return html_table(
            f"{len(self)} candidates",
            ["trial", *names, *(heading for heading, _ in accuracies), "architecture"],
            [
                [
                    str(candidate.trial),
                    *(number(row.get(name)) for name in names),
                    *(number(getattr(candidate, attribute)) for _, attribute in accuracies),
                    candidate.architecture.summary(),
                ]
                for candidate, row in zip(self, rows, strict=True)
            ],
        )


def pareto_front(study: Study, *, trained: str | None = None) -> list[Candidate]:
    """Return the feasible, undominated architectures of a study without repeats, cheapest first.

    Args:
        study: The study.
        trained: The key of the conditions whose accuracies to read; by default of the conditions
            with the most trials, for trainings of single trials and shared ones each.

    Raises:
        TftasError: Nothing was trained under those conditions.
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
    return Front(sorted(front.values(), key=lambda c: (c.n_params, *losses(c, settings))))


def candidates_of(given: Any) -> list[Candidate]:
    """Return the candidates that an argument stands for, one or several.

    Raises:
        TftasError: It is something else.
    """
    candidates = listed(given)
    for candidate in candidates:
        if not isinstance(candidate, Candidate):
            raise TftasError(
                f"{shown(candidate)} is no candidate of a study; give some of pareto_front(study)"
            )
    return candidates


def get_candidate(study: Study, number: int, *, trained: str | None = None) -> Candidate:
    """Return one trial of a study as a candidate.

    Args:
        study: The study.
        number: Number of the trial.
        trained: The key of the conditions whose accuracy to read; see :func:`pareto_front`.

    Raises:
        TftasError: Nothing was trained under those conditions.
        UnavailableError: The trial does not exist, has no value, or is not an architecture of the
            study's space.
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


def with_accuracies_of(candidates: Iterable[Candidate], trained: str | None) -> list[Candidate]:
    """Return the candidates without the accuracies of trainings with another key."""
    return [
        c
        if c.trained == trained
        else dataclasses.replace(c, top1=None, top1_sd=None, trained=None)
        for c in candidates
    ]


def known_values(trial: FrozenTrial, settings: StudySettings) -> dict[str, float]:
    """Return the metrics that a finished trial stores, objectives included, by name.

    Raises:
        UnavailableError: The trial has no value yet.
    """
    if trial.values is None:
        raise UnavailableError(f"trial {trial.number} has no value yet; pick a finished one")
    return numeric_attributes(trial) | dict(zip(settings.objectives, trial.values, strict=True))


def losses(candidate: Candidate, settings: StudySettings) -> tuple[float, ...]:
    """Return the objectives of a candidate, negated where more is better."""
    return tuple(
        candidate.values[name] * (-1 if direction == "maximize" else 1)
        for name, direction in zip(settings.objectives, settings.directions, strict=True)
    )


class _Reader:
    """Reads trials of one study as candidates.

    Args:
        study: The study.
        settings: The settings of the study.
        trained: The key of the conditions whose accuracies to read.
    """

    def __init__(self, study: Study, settings: StudySettings, trained: str | None) -> None:
        self._settings = settings
        self._trainings = choose_trainings(study, trained)
        self._shared = choose_trainings(study, trained, shared=True)
        self._exact = exact_values(study)
        self._held_out = read_held_out(study).values
        self._names = dict.fromkeys((*settings.objectives, *settings.bounds, *ALWAYS))

    def read(self, trial: FrozenTrial) -> Candidate:
        settings = self._settings
        values = known_values(trial, settings)
        arch = settings.space.decode(trial.params)
        costs = arch.costs(**settings.target.input)
        values |= costs._asdict()
        key = str(trial.number)
        trainings, shared = (
            None if chosen is None or trial.number not in chosen.records else chosen
            for chosen in (self._trainings, self._shared)
        )
        return Candidate(
            trial=trial.number,
            architecture=arch,
            values={
                name: int(values[name]) if name in ALWAYS else float(values[name])
                for name in self._names
                if name in values
            },
            exact={
                name: by_trial[key] for name, by_trial in self._exact.items() if key in by_trial
            },
            fidelity=settings.fidelity,
            approximated=settings.approximated,
            top1=None if trainings is None else trainings.top1(trial.number),
            top1_sd=None if trainings is None else trainings.sd(trial.number),
            trained=None if trainings is None else trainings.key,
            shared_top1=None if shared is None else shared.top1(trial.number),
            shared=None if shared is None else shared.key,
            sizes=settings.target.input,
            held_out=self._held_out.get(key),
        )


def exact_values(study: Study) -> dict[str, dict[str, float]]:
    """Return the exact values stored in a study, by indicator and trial number."""
    record = attributes(study)
    if EXACT not in record and "record_version" not in record:
        record = upgraded(record, study.metric_names or [])
    return {name: dict(by_trial) for name, by_trial in record.get(EXACT, {}).items()}


def _best(study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
    feasible = [
        trial for trial in trials if all(value <= 0 for value in trial.constraints.values())
    ]
    return sorted(feasible, key=lambda trial: sign * trial.values[0])[:1]
