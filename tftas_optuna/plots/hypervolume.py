"""The growth of a study's front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics import Meters, get_cost
from tftas_optuna.plots._drawing import BLUE, panels, rounded
from tftas_optuna.plots.trials import finished_trials
from tftas_optuna.study.hypervolume import Hypervolume, front_rows
from tftas_optuna.study.record import meter_records

if TYPE_CHECKING:
    from optuna import Study
    from plotly.graph_objects import Figure

    from tftas_optuna.study.settings import StudySettings

_MOST_STEPS = 80


def hypervolumes(study: Study) -> list[tuple[int, float]]:
    """Return the hypervolume after some of the trials, including the first and the last.

    Returns:
        Pairs of the number of finished trials and their hypervolume. All have the same reference
        point: indicators that count from their worst value use the worst of the whole study.

    Raises:
        UnavailableError: An objective was measured, and the study has no record of it.
    """
    finished = finished_trials(study)
    if not finished.trials:
        return []
    settings, values = finished.settings, finished.values
    hypervolume = Hypervolume(settings, _meters(study, settings))
    signs = np.array([-1 if direction == "maximize" else 1 for direction in settings.directions])
    losses = values * signs
    front = losses[:0]
    done, steps = 0, []
    for count in np.unique(np.linspace(1, len(losses), _MOST_STEPS).astype(int)):
        new = losses[done:count][finished.feasible[done:count]]
        front = front_rows(np.concatenate([front, new]))
        done = int(count)
        # The worst values of all trials add no hypervolume, and fix the reference point.
        corner = losses[finished.feasible].max(axis=0) if len(front) else losses[:0]
        steps.append((done, hypervolume(np.vstack([front, corner]) * signs)))
    return steps


def plot_hypervolume(study: Study) -> Figure:
    """Draw how the hypervolume of a study grew with its trials.

    Returns:
        A Plotly figure of ``hypervolumes``.

    Raises:
        UnavailableError: The study was not made by this package, or has no record of a cost
            that it measured.
    """
    from plotly.graph_objects import Scatter

    steps = hypervolumes(study)
    figure = panels([""], 1)
    figure.add_trace(
        Scatter(
            x=[count for count, _ in steps],
            y=rounded(value for _, value in steps),
            mode="lines+markers",
            marker={"size": 4},
            line={"color": BLUE, "shape": "hv"},
            hovertemplate="%{x} trials: %{y:.5s}<extra></extra>",
        )
    )
    figure.update_xaxes(title_text="finished trials")
    figure.update_yaxes(title_text="hypervolume", exponentformat="SI")
    return figure


def _meters(study: Study, settings: StudySettings) -> Meters:
    records = meter_records(study)
    names = [name for name in settings.costs if name in settings.objectives]
    for name in names:
        # A new measurement would differ from the values of the trials.
        if get_cost(name).measured and name not in records:
            raise UnavailableError(
                f"the study keeps no record of how {name} was measured, which a hypervolume needs"
            )
    return Meters(names, settings.space, settings.target, records)
