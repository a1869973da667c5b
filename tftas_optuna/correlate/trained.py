"""A study as a table: its retrained trials, and their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.correlate.grounds import ground_of
from tftas_optuna.correlate.table import TrainedTable
from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics import get_indicator
from tftas_optuna.study.accuracy import choose_trainings, count_trials, training_sets
from tftas_optuna.study.front import exact_values, known_values
from tftas_optuna.study.own import own_trials
from tftas_optuna.study.record import read_settings, reference

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from optuna import Study

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.study.settings import StudySettings

# By column, whether its accuracies are of shared trainings.
_COLUMNS = {"top1": False, "shared_top1": True}


def read_study(study: Study, trained: str | None = None) -> TrainedTable:
    """Read the architectures of a study that were retrained, with the accuracies they reached.

    Accuracies of trainings are ``top1``, those with the weights of a supernet that was trained for
    several members ``shared_top1``. If several trials have the same architecture, the first one
    that was trained counts; of several seeds, the mean.

    Args:
        study: The study.
        trained: The key of the training conditions, whose accuracies alone are read; None for
            both kinds, those of the most trials each.

    Raises:
        TftasError: Nothing was trained under such conditions.
        UnavailableError: The study was not made by this package, or nothing was retrained.
    """
    settings = read_settings(study)
    sizes = settings.conditions.target.input
    chosen = {
        column: trainings
        for column, shared in _COLUMNS.items()
        if (trainings := choose_trainings(study, trained, shared=shared)) is not None
        and trained in (None, trainings.key)
    }
    if not chosen:
        raise UnavailableError(
            f"study {study.study_name!r} has no accuracies; train some of its architectures with"
            " `tftas-optuna retrain --study`"
        )
    trials = {trial.number: trial for trial in own_trials(study, settings)}
    numbers: dict[Architecture, int] = {}
    accuracies: dict[str, dict[Architecture, float | None]] = {column: {} for column in chosen}
    trained_trials = {number for trainings in chosen.values() for number in trainings.records}
    for number in sorted(trained_trials & trials.keys()):
        arch = settings.space.decode(trials[number].params)
        numbers.setdefault(arch, number)
        for column, trainings in chosen.items():
            if number in trainings.records:
                accuracies[column].setdefault(arch, trainings.top1(number))
    others = [
        f"{trainings.key} ({count_trials([trainings])})"
        for shared in _COLUMNS.values()
        for trainings in training_sets(study, shared=shared)
        if trainings not in chosen.values()
    ]
    return TrainedTable(
        name=study.study_name,
        space=settings.space,
        architectures=tuple(numbers),
        accuracies={
            column: tuple(by_arch.get(arch) for arch in numbers)
            for column, by_arch in accuracies.items()
        },
        sizes={name: sizes[name] for name in ("img_size", "num_classes")},
        numbers=tuple(numbers.values()),
        notes=(f"left out: trainings under other conditions, {', '.join(others)}",)
        if others
        else (),
        counted="trial",
        trainings=chosen,
    )


class Given(NamedTuple):
    """Scores that a study has already.

    Attributes:
        scores: By indicator and architecture, means over the seeds.
        reference: Values of the reference sample, for fusions.
    """

    scores: Mapping[str, Mapping[Architecture, float]] = {}
    reference: Reference | None = None


def stored_scores(study: Study, settings: StudySettings, archs: Collection[Architecture]) -> Given:
    """Return the scores of a study that other settings would compute in the same way.

    Args:
        study: The study.
        settings: The other settings.
        archs: The architectures whose scores are needed.
    """
    theirs = read_settings(study)
    exact = exact_values(study)
    trials = [
        (trial, arch)
        for trial in own_trials(study, theirs)
        if (arch := theirs.space.decode(trial.params)) in archs
    ]
    stored: dict[str, dict[Architecture, float]] = {}
    alike = [n for n in settings.indicators if ground_of(theirs, n) == ground_of(settings, n)]
    for name in alike:
        fidelity = get_indicator(name).fidelity_for(settings.fidelity)
        searched = theirs.fidelity if name in theirs.approximated else "exact"
        scores = stored.setdefault(name, {})
        for trial, arch in trials:
            value = exact.get(name, {}).get(str(trial.number)) if fidelity == "exact" else None
            if fidelity == searched:
                value = known_values(trial, theirs).get(name)
            if value is not None:
                scores.setdefault(arch, float(value))
    return Given(stored, reference(study) if len(alike) == len(settings.indicators) else None)
