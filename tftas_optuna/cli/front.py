"""``tftas-optuna front``: the Pareto front of a study, or of several side by side."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from tftas_optuna.cli._options import (
    format_option,
    storage_option,
    trained_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from optuna import Study

    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings


@click.command()
@storage_option
@click.option(
    "--study-name",
    "study_names",
    metavar="NAME",
    multiple=True,
    help="Study to use; needed if there are several. Repeat it for a table of several fronts.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="Compute exact scores where the search approximated them, and store them in the study.",
)
@trained_option
@format_option
@verbosity_options
def front(
    storage: str, study_names: tuple[str, ...], exact: bool, trained: str | None, output: str
) -> None:
    """Print the Pareto front of a study, cheapest first."""
    from tftas_optuna.cli import _tables
    from tftas_optuna.storage import load_study
    from tftas_optuna.study.accuracy import choose_key

    names = dict.fromkeys(study_names) or [None]
    studies = [load_study(storage, name) for name in names]
    trained = choose_key(studies, trained)
    fronts = [_members(study, exact, trained) for study in studies]
    notes = (_tables.images_text(studies), _tables.trainings_text(studies, trained))
    about = "\n".join(note for note in notes if note)
    several = len(studies) > 1
    if several:
        _warn_of_supernets(studies)
    if output != "table":
        rows = [
            {"study": study.study_name, **row} if several else row
            for study, members in zip(studies, fronts, strict=True)
            for row in _tables.candidate_rows(members)
        ]
        _tables.print_rows(rows, output)
        if about:
            click.echo(about, err=True)
        return
    counts = [len(study.get_trials(deepcopy=False)) for study in studies]
    titles = [
        f"{study.study_name}: {len(members)} of {count} trials"
        for study, members, count in zip(studies, fronts, counts, strict=True)
    ]
    title = f"Pareto front of {titles[0]}" if not several else f"Fronts of {'; '.join(titles)}"
    row_studies = [
        study.study_name for study, members in zip(studies, fronts, strict=True) for _ in members
    ]
    candidates = [candidate for members in fronts for candidate in members]
    _tables.stdout().print(
        _tables.candidate_table(candidates, title, row_studies if several else ())
    )
    if about:
        click.echo(about)


def _members(study: Study, exact: bool, trained: str | None) -> list[Candidate]:
    from tftas_optuna.cli import _tables
    from tftas_optuna.cli._members import with_exact_scores
    from tftas_optuna.study.accuracy import training_sets
    from tftas_optuna.study.front import pareto_front, without_accuracies

    if trained is None or trained in (trainings.key for trainings in training_sets(study)):
        candidates = pareto_front(study, trained=trained)
    else:
        candidates = without_accuracies(pareto_front(study))
    if exact:
        candidates = with_exact_scores(study, candidates)
        _tables.say_agreement(study, len(candidates))
    return candidates


def _warn_of_supernets(studies: list[Study]) -> None:
    """Warn of indicators whose values were computed on different supernets or inputs."""
    from tftas_optuna.study.record import read_settings

    all_settings = [read_settings(study) for study in studies]
    for name in dict.fromkeys(name for settings in all_settings for name in settings.indicators):
        scored = [settings for settings in all_settings if name in settings.indicators]
        dependencies = [_dependencies(settings, name) for settings in scored]
        images = {
            dataclasses.replace(source, data_dir=None)
            for settings in scored
            if (source := settings.conditions.images) is not None
        }
        if any(other != dependencies[0] for other in dependencies) or len(images) > 1:
            click.echo(
                f"{name} of these studies was measured on different supernets or inputs: its"
                " values compare within a study only.",
                err=True,
            )


def _dependencies(settings: StudySettings, name: str) -> tuple[object, ...]:
    """Return what the values of an indicator depend on, except unlabelled images."""
    from tftas_optuna.metrics import get_indicator

    conditions = dataclasses.replace(settings.conditions, images=None, evaluation=None).to_dict()
    del conditions["space_definition"]["name"]
    evaluation = settings.conditions.evaluation if get_indicator(name).labelled else None
    return conditions, evaluation and evaluation.digest, settings.options.get(name)
