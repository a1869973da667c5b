"""The front of a study among its other trials, with bounds and picked members."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tftas_optuna.plots._drawing import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    axis_title,
    cell,
    panels,
    plain,
    rounded,
)
from tftas_optuna.plots.trials import finished_trials, thinned
from tftas_optuna.study.front import candidates_of, pareto_front
from tftas_optuna.study.selection import merit
from tftas_optuna.study.settings import ALWAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from plotly.graph_objects import Figure

    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

_COLUMNS = 2
# More points than these hide each other, and make a file that is slow to open.
_MOST_OTHERS = 1200
_MOST_MEMBERS = 800


class Group(NamedTuple):
    """Trials that are drawn in the same style.

    Attributes:
        name: Name of the group.
        labels: Labels of the trials.
        columns: Values of their metrics, by name.
        total: Number of trials in the group, of which only some may be drawn.
    """

    name: str
    labels: list[str]
    columns: dict[str, list[float]]
    total: int


def planes(settings: StudySettings) -> list[tuple[str, str]]:
    """Return the pairs of metrics that a front is drawn over, horizontal metric first.

    These are all pairs of objectives, and the first indicator against every bounded metric that
    is not an objective.
    """
    best, _ = merit(settings)
    others = [name for name in settings.objectives if name != best]
    bounded = [name for name in settings.bounds if name not in settings.objectives]
    pairs = [(name, best) for name in (*others, *bounded)]
    pairs += list(itertools.combinations(others, 2))
    return pairs or [(next(name for name in ALWAYS if name != best), best)]


def front_groups(study: Study, picked: Sequence[Candidate] = ()) -> list[Group]:
    """Return the groups of trials in a figure of the front, the most important last."""
    finished, picked = finished_trials(study), candidates_of(picked)
    names = list(dict.fromkeys(itertools.chain(*planes(finished.settings))))
    members = pareto_front(study)
    special = {candidate.trial for candidate in (*members, *picked)}
    columns = {name: finished.column(name) for name in names}
    other = np.array([trial.number not in special for trial in finished.trials], dtype=bool)

    groups = []
    for name, mask in (
        ("out of bounds", other & ~finished.feasible),
        ("other trials", other & finished.feasible),
    ):
        kept = thinned(np.flatnonzero(mask), _MOST_OTHERS)
        groups.append(
            Group(
                name,
                [f"trial {finished.trials[i].number}" for i in kept],
                {metric: rounded(values[kept]) for metric, values in columns.items()},
                int(mask.sum()),
            )
        )
    shown = [members[i] for i in thinned(np.arange(len(members)), _MOST_MEMBERS)]
    for name, group, total in (
        ("front", shown, len(members)),
        ("picked", list(picked), len(picked)),
    ):
        groups.append(
            Group(
                name,
                [f"trial {c.trial}: {c.architecture.summary()}" for c in group],
                {metric: [c.values.get(metric, np.nan) for c in group] for metric in names},
                total,
            )
        )
    return [group for group in groups if group.labels]


def plot_front(study: Study, picked: Sequence[Candidate] = ()) -> Figure:
    """Draw the Pareto front of a study among its trials.

    Args:
        study: The study.
        picked: Members to highlight.

    Returns:
        A Plotly figure with a panel for each pair of objectives, and for each bounded metric that
        is not an objective. Bounds near the trials are dashed lines. Of thousands of trials only
        some are drawn; the legend says how many.

    Raises:
        UnavailableError: The study was not made by this package.

    Example:
        >>> from tftas_optuna import get_space, search
        >>> from tftas_optuna.plots import plot_front
        >>> study = search(get_space("autoformer-tiny"), n_trials=30)
        >>> figure = plot_front(study)
    """
    settings = finished_trials(study).settings
    pairs = planes(settings)
    groups = front_groups(study, picked)
    from plotly.graph_objects import Scatter

    figure = panels([""] * len(pairs), _COLUMNS)
    styles = {
        "out of bounds": {"color": RED, "symbol": "x-thin-open", "size": 5, "opacity": 0.6},
        "other trials": {"color": GREY, "size": 5, "opacity": 0.5},
        "front": {"color": BLUE, "size": 7},
        "picked": {"color": ORANGE, "size": 12, "symbol": "diamond-open", "line": {"width": 2}},
    }
    for place, (x, y) in enumerate(pairs):
        where = cell(place, _COLUMNS, len(pairs))
        for group in groups:
            figure.add_trace(
                Scatter(
                    x=group.columns[x],
                    y=group.columns[y],
                    mode="markers",
                    name=_legend(group),
                    legendgroup=group.name,
                    showlegend=place == 0,
                    marker=styles[group.name],
                    text=[plain(label) for label in group.labels],
                    hovertemplate=f"%{{text}}<br>{x} %{{x:.5s}}<br>{y} %{{y:.5s}}<extra></extra>",
                ),
                **where,
            )
        figure.update_xaxes(title_text=axis_title(settings, x), exponentformat="SI", **where)
        figure.update_yaxes(title_text=axis_title(settings, y), exponentformat="SI", **where)
        line = {"line_dash": "dash", "line_color": RED}
        for limit in _bounds_near(groups, settings, x):
            figure.add_vline(x=limit, **line, **where)
        for limit in _bounds_near(groups, settings, y):
            figure.add_hline(y=limit, **line, **where)
    return figure


def _bounds_near(groups: Sequence[Group], settings: StudySettings, name: str) -> list[float]:
    """Return the bounds of a metric, except for those too far away from the trials to show."""
    values = [value for group in groups for value in group.columns[name]]
    if not values:
        return []
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = high - low
    limits = settings.bounds.get(name, ())
    return [x for x in limits if x is not None and low - room <= x <= high + room]


def _legend(group: Group) -> str:
    some = "" if len(group.labels) == group.total else f"{len(group.labels):,} of "
    return f"{group.name} ({some}{group.total:,})"
