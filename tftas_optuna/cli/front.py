"""``tftas-optuna front``: the Pareto front of a study, or of several side by side."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import click

from tftas_optuna.cli._options import (
    check_members,
    format_option,
    members_options,
    storage_option,
    trained_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
@members_options("print")
@trained_option
@format_option
@verbosity_options
def front(
    storage: str,
    study_names: tuple[str, ...],
    exact: bool,
    top: int | None,
    spread: int | None,
    trained: str | None,
    output: str,
) -> None:
    """Print the Pareto front of a study, best first.

    The accuracies of trainings rank it, else those with the weights of a supernet that was trained
    for several members, else the score.
    """
    from tftas_optuna.cli import _tables
    from tftas_optuna.cli._members import best_of
    from tftas_optuna.storage import load_study

    check_members(top, spread)
    names = dict.fromkeys(study_names) or [None]
    studies = [load_study(storage, name) for name in names]
    pick = partial(best_of, top=top, spread=spread)
    wholes, fronts, ranks = _fronts(studies, exact, trained, pick)
    several = len(studies) > 1
    about = [
        *_tables.exact_texts(studies, wholes),
        *(f"{study.study_name}: {rank}" if several else rank for study, rank in ranks),
        *_tables.images_texts(studies),
        *_tables.trainings_texts(studies, trained),
    ]
    if several:
        _warn_of_supernets(studies)
    if output != "table":
        rows = [
            {"study": study.study_name, **row} if several else row
            for study, members in zip(studies, fronts, strict=True)
            for row in _tables.candidate_rows(members)
        ]
        _tables.print_rows(rows, output)
        for line in about:
            click.echo(line, err=True)
        return
    counts = [len(study.get_trials(deepcopy=False)) for study in studies]
    titles = [
        f"{study.study_name}: {len(whole)} of {count} trials"
        + (f" ({len(members)} shown)" if len(members) < len(whole) else "")
        for study, members, whole, count in zip(studies, fronts, wholes, counts, strict=True)
    ]
    title = f"Pareto front of {titles[0]}" if not several else f"Fronts of {'; '.join(titles)}"
    row_studies = [
        study.study_name for study, members in zip(studies, fronts, strict=True) for _ in members
    ]
    candidates = [candidate for members in fronts for candidate in members]
    _tables.print_table(
        title, _tables.candidate_columns(candidates, row_studies if several else ())
    )
    for line in about:
        click.echo(line)


def _fronts(
    studies: Sequence[Study],
    exact: bool,
    trained: str | None,
    pick: Callable[[Study, Sequence[Candidate]], list[Candidate]],
) -> tuple[list[list[Candidate]], list[list[Candidate]], list[tuple[Study, str]]]:
    """Return fronts, the picked members of each, and what those with members are sorted by.

    Accuracies of trainings are those under the same conditions in all studies.
    """
    from tftas_optuna.cli._members import with_exact_scores
    from tftas_optuna.study.accuracy import choose_key, training_sets
    from tftas_optuna.study.front import pareto_front, with_accuracies_of
    from tftas_optuna.study.record import read_settings
    from tftas_optuna.study.selection import ranked_by

    own = choose_key(studies, trained)
    wholes, fronts, ranks = [], [], []
    for study in studies:
        sets = (*training_sets(study), *training_sets(study, shared=True))
        keys = {trainings.key for trainings in sets}
        key = next((key for key in (trained, own) if key in keys), None)
        candidates = with_accuracies_of(pareto_front(study, trained=key), own)
        picked = pick(study, candidates)
        if exact:
            picked = with_exact_scores(study, picked)
            scored = {candidate.trial: candidate for candidate in picked}
            candidates = [scored.get(candidate.trial, candidate) for candidate in candidates]
        wholes.append(candidates)
        fronts.append(picked)
        if candidates:
            ranks.append((study, ranked_by(candidates, read_settings(study))))
    return wholes, fronts, ranks


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
