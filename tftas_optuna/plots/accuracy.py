"""Scores of a study against the accuracies of what was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.errors import UnavailableError
from tftas_optuna.plots._drawing import (
    BLUE,
    axis_title,
    cell,
    graph_objects,
    panels,
    plain,
    rounded,
)
from tftas_optuna.study.accuracy import accuracies
from tftas_optuna.study.front import get_candidate
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from optuna import Study
    from plotly.graph_objects import Figure

    from tftas_optuna.study.front import Candidate

_COLUMNS = 2


def trained(study: Study) -> list[Candidate]:
    """List the architectures of a study that were trained, in the order of their trials.

    Raises:
        UnavailableError: None was.
    """
    numbers = sorted(accuracies(study))
    if not numbers:
        raise UnavailableError(
            f"nothing of study {study.study_name!r} was trained; `tftas-optuna retrain --study`"
            " does it"
        )
    return [get_candidate(study, number) for number in numbers]


def plot_accuracy(study: Study) -> Figure:
    """Draw the accuracies of trained architectures against their objectives.

    Returns:
        A Plotly figure, with a panel for each objective.

    Raises:
        UnavailableError: Plotly is not installed, nothing was trained, or the study was not made
            by this package.
    """
    graph = graph_objects()
    settings = read_settings(study)
    found = trained(study)
    names = settings.objectives
    figure = panels([""] * len(names), _COLUMNS)
    for place, name in enumerate(names):
        where = cell(place, _COLUMNS, len(names))
        figure.add_trace(
            graph.Scatter(
                x=rounded(candidate.value(name) for candidate in found),
                y=[candidate.top1 for candidate in found],
                mode="markers+text",
                text=[str(candidate.trial) for candidate in found],
                textposition="top center",
                cliponaxis=False,
                marker={"color": BLUE, "size": 9},
                customdata=[plain(candidate.architecture.summary()) for candidate in found],
                hovertemplate="trial %{text}: %{customdata}<br>"
                f"{name} %{{x:.5s}}, top-1 %{{y:.2f}} %<extra></extra>",
                showlegend=False,
            ),
            **where,
        )
        figure.update_xaxes(title_text=axis_title(settings, name), exponentformat="SI", **where)
        figure.update_yaxes(title_text="top-1 (%)", **where)
    return figure
