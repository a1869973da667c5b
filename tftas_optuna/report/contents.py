"""The contents of a report as plain values: facts, tables, figures and commands."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import yaml

from tftas_optuna import plots
from tftas_optuna.architecture.blocks import blocks_of
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import cost_names
from tftas_optuna.metrics.units import MISSING, costs_alike, count_text, scores_alike, short
from tftas_optuna.plots.accuracy import trained_candidates
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.report.commands import Command, report_commands
from tftas_optuna.study.accuracy import choose_trainings, count_trials, training_sets
from tftas_optuna.study.agreement import agreement_texts
from tftas_optuna.study.evaluated import read_evaluations
from tftas_optuna.study.front import candidates_of, pareto_front, value_names
from tftas_optuna.study.held_out import images_text
from tftas_optuna.study.own import own_trials
from tftas_optuna.study.record import read_settings
from tftas_optuna.study.selection import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study
    from plotly.graph_objects import Figure

    from tftas_optuna.study.accuracy import TrainingSet
    from tftas_optuna.study.evaluated import TrialEvaluation
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

PICKED = 6
_MOST_ROWS = 200
# The rank correlation of fewer says nothing.
_LEAST_TRAINED = 4


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with one candidate per row.

    Attributes:
        head: Names of the columns.
        rows: Their cells.
        title: Title of the table.
    """

    head: list[str]
    rows: list[list[str]]
    title: str


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes:
        title: Its heading.
        text: What the figures show, and how far to trust them.
        figures: Names and plain data of Plotly figures.
        table: A table to show below.
        more: A table to show folded.
        missing: Lines that say what is missing, and why.
    """

    title: str
    text: str = ""
    figures: list[tuple[str, dict[str, Any]]] = dataclasses.field(default_factory=list)
    table: Table | None = None
    more: Table | None = None
    missing: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Contents:
    """A whole report.

    Attributes:
        name: Name of the study.
        facts: Facts about the study, by name.
        sections: The sections.
        commands: Commands that reproduce the report, and continue from it.
        space: The space, as YAML.
    """

    name: str
    facts: dict[str, str]
    sections: list[Section]
    commands: list[Command]
    space: str


def contents(
    study: Study,
    picked: Sequence[Candidate] | None = None,
    storage: str | None = None,
    trained: str | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> Contents:
    """Return the contents of a report.

    Args:
        study: The study.
        picked: Members to draw; by default :data:`PICKED` spread over the front.
        storage: The study's storage, for the commands.
        trained: Key of the trainings to show; see :func:`tftas_optuna.pareto_front`.
        callback: Called before every section and in the end with the number done and the total.

    Raises:
        TftasError: Nothing was trained under these conditions.
        UnavailableError: The study was not made by this package.
    """
    settings = read_settings(study)
    front = pareto_front(study, trained=trained)
    chosen = spread(front, PICKED, settings) if picked is None else candidates_of(picked)
    evaluations = read_evaluations(study)
    parts: list[Callable[[], Section]] = [
        lambda: _front(study, settings, front, chosen),
        lambda: _drawn("Growth", _GROWTH, {"Hypervolume": lambda: plots.plot_hypervolume(study)}),
        lambda: _choices(study, settings),
        lambda: _architectures(chosen),
        lambda: _layers(study, chosen),
        lambda: _accuracy(study, settings, trained),
        *([lambda: _evaluated(evaluations)] if evaluations else []),
    ]
    if not own_trials(study, settings):
        parts = [lambda: Section("Front", missing=["No trial has finished yet."])]
    sections: list[Section] = []
    told = callback or (lambda done, total: None)
    for part in parts:
        told(len(sections), len(parts))
        sections.append(part())
    told(len(sections), len(parts))
    return Contents(
        name=study.study_name,
        facts=_facts(study, settings, front),
        sections=sections,
        commands=report_commands(study, chosen, storage, trained),
        space=yaml.safe_dump(settings.space.to_dict(), sort_keys=False, default_flow_style=None),
    )


_EVALUATED = (
    "What `tftas-optuna evaluate` found for trained networks that are still as they were. Rows are"
    " classes, columns what the network takes them for, in per cent of the row; cells have numbers"
    " of images. The network that is right most often is drawn."
)
_FRONT = (
    "Every point is a trial. A trial is on the front if no other trial within the bounds is better"
    " in one objective and as good in the others. Dashed lines are bounds."
)
_GROWTH = (
    "The hypervolume: how much of the objective space the front dominates. Costs count as"
    " fractions of their range in the search space, so a front with a score of s at every cost"
    " would have a hypervolume of s. Once the curve is flat, more trials improve little."
)
_CHOICES = (
    "The mean of each objective over the trials that made a choice, minus its mean over all trials"
    " that had the choice, with 95 % intervals. Blocks that a network does not have do not count."
    " This is not the effect of a choice by itself: a sampler tries some choices together."
)
_IMPORTANCES = (
    "Importances are Optuna's (PED-ANOVA): how well a parameter separates the best tenth of trials"
    " from the rest. Only parameters that matter in every network are shown."
)
_ARCHITECTURES = (
    "The hidden width of each block's MLP is drawn upwards, the width of its attention downwards,"
    " with the number of heads. All panels have the same scale."
)
_LAYERS = "What each layer of the picked networks adds to their score, on the study's supernet."
_ACCURACY = (
    "Top-1 accuracy of trained networks, with the numbers of their trials. An untrained score is"
    " useful if it ranks networks of similar size as their accuracies do."
)


def _front(
    study: Study, settings: StudySettings, front: list[Candidate], chosen: list[Candidate]
) -> Section:
    listed = spread(front, _MOST_ROWS, settings)
    some = "" if len(listed) == len(front) else f"{len(listed)} of "
    section = _drawn("Front", _FRONT, {"Front": lambda: plots.plot_front(study, chosen)})
    if not front:
        section.missing.append("No trial is within the bounds yet.")
        return section
    return dataclasses.replace(
        section,
        table=_table(chosen, "Picked") if chosen else None,
        more=_table(listed, f"The whole front ({some}{len(front)} members)"),
    )


def _choices(study: Study, settings: StudySettings) -> Section:
    def of(objective: str) -> Callable[[], Figure]:
        return lambda: plots.plot_choices(study, objective)

    figures: dict[str, Callable[[], Figure]] = {
        f"Choices, {settings.label(name)}": of(name) for name in settings.objectives
    }
    figures["Importances"] = lambda: plots.plot_importances(study)
    return _drawn("Which choices pay", f"{_CHOICES} {_IMPORTANCES}", figures)


def _architectures(chosen: list[Candidate]) -> Section:
    if not any(blocks_of(candidate.architecture) for candidate in chosen):
        return Section("Architectures", missing=["Nothing is picked whose blocks are known."])
    return _drawn(
        "Architectures",
        _ARCHITECTURES,
        {"Architectures": lambda: plots.plot_architectures(chosen)},
    )


def _layers(study: Study, chosen: list[Candidate]) -> Section:
    if not chosen:
        return Section("Score by layer", missing=["Nothing is picked."])
    return _drawn("Score by layer", _LAYERS, {"Layers": lambda: plots.plot_layers(study, chosen)})


def _accuracy(study: Study, settings: StudySettings, trained: str | None) -> Section:
    """Show the accuracies of trainings of single trials and of shared ones."""
    texts = [_ACCURACY]
    tabled: dict[int, Candidate] = {}
    figures: dict[str, Callable[[], Figure]] = {}
    for shared in (False, True):
        shown = choose_trainings(study, trained, shared=shared)
        if shown is None:
            continue
        candidates = trained_candidates(study, trained, shared=shared)
        tabled |= {candidate.trial: candidate for candidate in candidates}
        texts.append(_trainings(study, settings, shown, candidates, shared))
        figures["Shared accuracy" if shared else "Accuracy"] = (
            lambda shared=shared: plots.plot_accuracy(study, trained, shared=shared)  # type: ignore[misc]
        )
    if not figures:
        return Section("Trained accuracy", missing=["Nothing of this study was trained yet."])
    section = _drawn("Trained accuracy", " ".join(texts), figures)
    rows = [tabled[number] for number in sorted(tabled)]
    return dataclasses.replace(section, table=_table(rows, "Trained"))


def _evaluated(evaluations: Sequence[TrialEvaluation]) -> Section:
    """Show evaluations of trained networks, and the confusion matrix of the best."""
    drawn = max((e for e in evaluations if e.confusion), key=lambda e: e.top1, default=None)
    section = Section("Evaluated", missing=["No confusion matrix: there are too many classes."])
    if drawn is not None:
        name = f"Trial {drawn.trial} on {drawn.split}"
        section = _drawn("Evaluated", _EVALUATED, {name: lambda: plots.plot_confusion(drawn)})
    rows = [[str(e.trial), f"{e.n_images:,}", f"{e.top1:.2f}", e.split] for e in evaluations]
    head = ["trial", "images", "top-1 (%)", "evaluated on"]
    return dataclasses.replace(section, table=Table(head, rows, "Evaluated"))


def _trainings(
    study: Study,
    settings: StudySettings,
    shown: TrainingSet,
    candidates: Sequence[Candidate],
    shared: bool,
) -> str:
    what = "Shared accuracies are those of" if shared else "These are"
    text = f"{what} trainings {shown.key}: {shown}."
    sets = training_sets(study, shared=shared)
    others = [f"{o.key} ({count_trials([o])})" for o in sets if o.key != shown.key]
    if others:
        text += f" Others, under other conditions, are not shown: {', '.join(others)}."
    if len(candidates) >= _LEAST_TRAINED:
        tops = [float((c.shared_top1 if shared else c.top1) or 0) for c in candidates]
        taus = (
            f"{settings.label(name)} {tau:.2f}"
            for name in settings.objectives
            if (tau := kendall_tau([c.value(name) for c in candidates], tops)) is not None
        )
        text += f" Kendall's tau over {len(candidates)} networks: {', '.join(taus)}."
    return text


def _drawn(title: str, text: str, figures: dict[str, Callable[[], Figure]]) -> Section:
    """Return a section with its figures, and the reasons why any are missing."""
    section = Section(title, text)
    for name, draw in figures.items():
        try:
            figure = draw()
        except TftasError as error:
            section.missing.append(f"{name}: {error}.")
            continue
        section.figures.append((name, _plain(figure)))
    return section


def _plain(figure: Figure) -> dict[str, Any]:
    """Return a figure as plain data, without its template: the page has its own."""
    data: dict[str, Any] = json.loads(figure.to_json())
    data["layout"].pop("template", None)
    return {"data": data["data"], "layout": data["layout"]}


def _facts(study: Study, settings: StudySettings, front: Sequence[Candidate]) -> dict[str, str]:
    finished = own_trials(study, settings)
    feasible = [t for t in finished if all(excess <= 0 for excess in t.constraints.values())]
    space, conditions = settings.space, settings.conditions
    bounds = [
        f"{name} {sign} {short(limit)}"
        for name, (low, high) in settings.bounds.items()
        for sign, limit in (("≥", low), ("≤", high))
        if limit is not None
    ]
    versions = study.user_attrs.get("versions") or {}
    facts = {
        "space": f"{space.name} ({space.family}, {count_text(space.cardinality())} architectures)",
        "objectives": ", ".join(
            f"{settings.label(name)} ({direction})"
            for name, direction in zip(settings.objectives, settings.directions, strict=True)
        ),
        "bounds": ", ".join(bounds) or "none",
        "trials": f"{len(finished):,} finished, {len(feasible):,} within the bounds,"
        f" {len(front):,} on the front",
        "exact values": " ".join(agreement_texts(front)),
        "sampler": f"{settings.sampler or 'unknown'}, seed {settings.seed}",
        "supernet": str(conditions.supernet)
        + (f", scores averaged over {conditions.n_seeds} seeds" if conditions.n_seeds > 1 else ""),
        "input": f"{conditions.img_size} pixels, {conditions.num_classes} classes",
        "labelled images": images_text(study, settings),
        "made with": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return {name: fact for name, fact in facts.items() if fact}


def _table(candidates: Sequence[Candidate], title: str) -> Table:
    rows = [candidate.named_values() for candidate in candidates]
    columns = {"trial": [str(candidate.trial) for candidate in candidates]}
    for name in value_names(candidates):
        alike = costs_alike if name in cost_names() else scores_alike
        columns[name] = alike(row.get(name) for row in rows)
    accuracies = {
        "top-1 (%)": [candidate.top1 for candidate in candidates],
        "sd of top-1": [candidate.top1_sd for candidate in candidates],
        "shared top-1 (%)": [candidate.shared_top1 for candidate in candidates],
    }
    for head, values in accuracies.items():
        if any(value is not None for value in values):
            columns[head] = [MISSING if value is None else f"{value:.2f}" for value in values]
    columns["architecture"] = [candidate.architecture.summary() for candidate in candidates]
    return Table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], title)
