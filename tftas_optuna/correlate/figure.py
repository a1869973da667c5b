"""Correlations as a figure: taus by band, and accuracies plotted over each metric."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tftas_optuna._writing import check_ours, replacing
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.metrics.units import short
from tftas_optuna.plots._drawing import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure

    from tftas_optuna.correlate.result import Correlations

_HTML = (".html", ".htm")
_IMAGES = (".png", ".svg", ".pdf")
# The end of every file: a comment in HTML and SVG; readers of PNG and PDF stop before it.
_MARK = b"\n<!-- drawn by tftas-optuna correlate -->\n"
_COLUMNS = 4
_ROW_PIXELS = 260
_CELL_PIXELS = 28


class Taus(NamedTuple):
    """Contents of the upper part of a figure, for one accuracy.

    Attributes:
        metrics: Names of the metrics, from bottom to top.
        bands: Names of the bands, from left to right: all, and each band.
        cells: Taus, shape (metrics, bands); None where one is not defined.
    """

    metrics: list[str]
    bands: list[str]
    cells: list[list[float | None]]


class Points(NamedTuple):
    """Contents of one panel of the lower part.

    Attributes:
        metric: Its horizontal axis.
        x: Values of the metric.
        y: Accuracies.
        bands: Numbers of the bands, from 1.
        labels: Labels of the architectures.
    """

    metric: str
    x: list[float]
    y: list[float]
    bands: list[int]
    labels: list[str]


def taus_of(correlations: Correlations, accuracy: str) -> Taus:
    """Return the contents of the upper part of a figure."""
    rows, bands = correlations.of(accuracy), correlations.bands[accuracy]
    names = [f"{short(band.least)} - {short(band.most)}" for band in bands]
    if len(set(names)) < len(names):
        names = [f"{i}: {name}" for i, name in enumerate(names, start=1)]
    return Taus(
        metrics=[row.metric for row in reversed(rows)],
        bands=["all", *names],
        cells=[[row.tau.value, *row.taus] for row in reversed(rows)],
    )


def points_of(correlations: Correlations, accuracy: str) -> list[Points]:
    """Return the contents of the lower part of a figure, a panel for each metric."""
    members = [
        (i, number)
        for number, band in enumerate(correlations.bands[accuracy], start=1)
        for i in band.members
    ]
    accuracies = correlations.accuracies[accuracy]
    panels = []
    for row in correlations.of(accuracy):
        points = Points(row.metric, [], [], [], [])
        for i, number in members:
            x, y = correlations.values[row.metric][i], accuracies[i]
            # A metric may lack a value of an architecture with an accuracy.
            if x is not None and y is not None:
                points.x.append(x)
                points.y.append(y)
                points.bands.append(number)
                points.labels.append(correlations.architectures[i].summary())
        panels.append(points)
    return panels


def plot_correlations(correlations: Correlations) -> Figure:
    """Draw correlations, with a menu if there are several accuracies.

    Returns:
        A Plotly figure: Kendall's tau of each metric, over all and in each band, as colours; and
        below it, for each metric, the accuracies against its values, coloured by band.
    """
    from plotly import graph_objects as graph
    from plotly.subplots import make_subplots

    names = list(correlations.accuracies)
    metrics = [row.metric for row in correlations.of(names[0])]
    panels = math.ceil(len(metrics) / _COLUMNS)
    upper = max(160, _CELL_PIXELS * len(metrics))
    figure = make_subplots(
        rows=1 + panels,
        cols=_COLUMNS,
        specs=[[{"colspan": _COLUMNS}, *[None] * (_COLUMNS - 1)]] + [[{}] * _COLUMNS] * panels,
        row_heights=[upper, *[_ROW_PIXELS] * panels],
        subplot_titles=["", *map(plain, metrics)],
        vertical_spacing=0.3 / (panels + 1),
    )
    for name in names:
        for trace in _traces(graph, correlations, name):
            place = len(figure.data) % (1 + len(metrics)) - 1
            row, column = (0, 0) if place < 0 else (1 + place // _COLUMNS, place % _COLUMNS)
            trace.visible = name == names[0]
            figure.add_trace(trace, row=row + 1, col=column + 1)
    figure.update_xaxes(exponentformat="SI")
    figure.update_layout(
        title=_title(correlations, names[0]),
        template="plotly_white",
        height=upper + _ROW_PIXELS * panels + 160,
        width=1100,
        showlegend=False,
        updatemenus=_menu(correlations, names, len(metrics)) if len(names) > 1 else [],
    )
    return figure


def check_plot(path: Path) -> None:
    """Check that a figure can be drawn to a file, before the work for it begins.

    Raises:
        TftasError: The ending of its name is not that of a figure.
        UnavailableError: Another file is in the way, or kaleido, which draws images, is not
            installed.
    """
    if path.suffix.lower() not in (*_HTML, *_IMAGES):
        raise TftasError(
            f"plot is {str(path)!r}, allowed are names that end in .html, {', '.join(_IMAGES)}"
        )
    if not path.parent.is_dir() or path.is_dir():
        raise UnavailableError(f"{path} cannot be drawn: no file in a directory that exists")
    check_ours(path, _MARK)
    if path.suffix.lower() in _IMAGES:
        try:
            import kaleido  # noqa: F401
        except ImportError as error:
            raise UnavailableError(
                f"{path.suffix} files are drawn by kaleido; pip install 'tftas-optuna[png]', or"
                " draw .html"
            ) from error


def write_plot(correlations: Correlations, path: Path) -> None:
    """Draw correlations to a file: HTML that needs no network, or an image.

    Raises:
        TftasError: The ending of its name is not that of a figure.
        UnavailableError: kaleido is not installed, or the file cannot be written.
    """
    check_plot(path)
    figure = plot_correlations(correlations)
    try:
        with replacing(path) as scratch:
            if path.suffix.lower() in _HTML:
                figure.write_html(scratch, include_plotlyjs=True)
            else:
                figure.write_image(scratch)
            with scratch.open("ab") as file:
                file.write(_MARK)
    except (OSError, RuntimeError, ValueError) as error:
        raise UnavailableError(f"{path} cannot be drawn ({error})") from error


def _traces(graph: Any, correlations: Correlations, accuracy: str) -> list[Any]:
    taus = taus_of(correlations, accuracy)
    heat = graph.Heatmap(
        x=taus.bands,
        y=[plain(metric) for metric in taus.metrics],
        z=taus.cells,
        zmin=-1,
        zmax=1,
        colorscale="RdBu",
        texttemplate="%{z:.2f}",
        hovertemplate="%{y}, %{x}: tau %{z:.3f}<extra></extra>",
        showscale=False,
    )
    return [heat] + [
        graph.Scatter(
            x=points.x,
            y=points.y,
            mode="markers",
            text=[plain(label) for label in points.labels],
            customdata=points.bands,
            marker={"color": points.bands, "colorscale": "Viridis", "size": 6},
            hovertemplate=f"{plain(points.metric)} %{{x:.5g}}, {plain(accuracy)} %{{y:.2f}}"
            "<br>%{text}<br>"
            "band %{customdata}<extra></extra>",
        )
        for points in points_of(correlations, accuracy)
    ]


def _title(correlations: Correlations, accuracy: str) -> str:
    count = correlations.of(accuracy)[0].n
    trainings = correlations.trainings.get(accuracy)
    which = "" if trainings is None else f", trainings {trainings.key}: {plain(str(trainings))}"
    return (
        f"{plain(correlations.name)}: {plain(accuracy)} of {count} architectures in"
        f" {plain(correlations.space)}{which}<br><sup>Kendall's tau"
        " over all and in bands of parameters; accuracies, coloured by band</sup>"
    )


def _menu(
    correlations: Correlations, names: Sequence[str], n_metrics: int
) -> list[dict[str, Any]]:
    buttons = [
        {
            "label": plain(name),
            "method": "update",
            "args": [
                {"visible": [other == name for other in names for _ in range(1 + n_metrics)]},
                {"title.text": _title(correlations, name)},
            ],
        }
        for name in names
    ]
    return [{"buttons": buttons, "x": 1.0, "xanchor": "right", "y": 1.08, "yanchor": "bottom"}]
