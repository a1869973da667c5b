"""Scores of a study against the accuracies of trained architectures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.errors import UnavailableError
from tftas_optuna.plots._drawing import (
    BLUE,
    axis_title,
    cell,
    panels,
    plain,
    rounded,
)
from tftas_optuna.study.accuracy import choose_trainings
from tftas_optuna.study.front import get_candidate
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from optuna import Study
    from plotly.graph_objects import Figure

    from tftas_optuna.study.front import Candidate

_COLUMNS = 2


def trained_candidates(
    study: Study, trained: str | None = None, *, shared: bool = False
) -> list[Candidate]:
    """List the architectures of a study that were trained under equal conditions.

    Args:
        study: The study.
        trained: Key of the conditions; None for those with the most trials.
        shared: Whether they were trained in one supernet instead of each by itself.

    Returns:
        The candidates, in the order of their trials.

    Raises:
        TftasError: Nothing was trained under these conditions.
        UnavailableError: Nothing was trained at all.
    """
    chosen = choose_trainings(study, trained, shared=shared)
    if chosen is None:
        raise UnavailableError(
            f"nothing of study {study.study_name!r} was trained; `tftas-optuna retrain --study`"
            " does it"
        )
    return [get_candidate(study, number, trained=chosen.key) for number in chosen.records]


def plot_accuracy(study: Study, trained: str | None = None, *, shared: bool = False) -> Figure:
    """Draw the accuracies of trained architectures against their objectives.

    Args:
        study: The study.
        trained: Key of the training conditions; by default those with the most trials.
        shared: Whether to draw the accuracies that architectures reached with the weights of one
            trained supernet.

    Returns:
        A Plotly figure, with a panel for each objective. With several seeds, points are means
        with standard deviations.

    Raises:
        TftasError: Nothing was trained under these conditions.
        UnavailableError: Nothing was trained, or the study was not made by this package.
    """
    from plotly import graph_objects as graph

    settings = read_settings(study)
    candidates = trained_candidates(study, trained, shared=shared)
    label, key = (
        ("shared top-1", candidates[0].shared) if shared else ("top-1", candidates[0].trained)
    )
    several = not shared and any(candidate.top1_sd is not None for candidate in candidates)
    names = settings.objectives
    figure = panels([""] * len(names), _COLUMNS)
    for place, name in enumerate(names):
        where = cell(place, _COLUMNS, len(names))
        figure.add_trace(
            graph.Scatter(
                x=rounded(candidate.value(name) for candidate in candidates),
                y=[c.shared_top1 if shared else c.top1 for c in candidates],
                error_y={"array": [c.top1_sd or 0.0 for c in candidates]} if several else None,
                mode="markers+text",
                text=[str(candidate.trial) for candidate in candidates],
                textposition="top center",
                cliponaxis=False,
                marker={"color": BLUE, "size": 9},
                customdata=[plain(candidate.architecture.summary()) for candidate in candidates],
                hovertemplate="trial %{text}: %{customdata}<br>"
                f"{name} %{{x:.5s}}, {label} %{{y:.2f}} %<extra></extra>",
                showlegend=False,
            ),
            **where,
        )
        figure.update_xaxes(title_text=axis_title(settings, name), exponentformat="SI", **where)
        title = f"{label} (%), trainings {key}"
        figure.update_yaxes(title_text=title, **where)
    return figure
