"""Shared by all figures: panels, colours, and titles of axes."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from tftas_optuna.metrics import cost_names, get_cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plotly.graph_objects import Figure

    from tftas_optuna.study.settings import StudySettings

# Readable on white and on black, and by the colour-blind (after Okabe and Ito).
BLUE, ORANGE, GREEN, RED, GREY = "#3a8fc8", "#e08214", "#1b9e77", "#d2604e", "#8e959c"
COLOURS = (BLUE, ORANGE, GREEN, "#cc79a7", "#b8a100", "#7b6fd0", RED, GREY)

_PANEL_PIXELS = 320
_HEAD_PIXELS = 70


def panels(
    titles: Sequence[str], columns: int, pixels: int = _PANEL_PIXELS, **options: Any
) -> Figure:
    """Return a figure of empty panels, row by row; see :func:`cell`.

    Args:
        titles: Titles of the panels; text of others must be made :func:`plain`.
        columns: Largest number of panels in a row.
        pixels: Height of a row in pixels.
        options: Passed on to Plotly's ``make_subplots``.
    """
    from plotly.subplots import make_subplots

    columns = min(columns, len(titles))
    rows = math.ceil(len(titles) / columns)
    height = pixels * rows + _HEAD_PIXELS
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=list(titles),
        vertical_spacing=min(110 / height, 1 / max(rows - 1, 1)),
        **options,
    )
    figure.update_annotations(font_size=13)
    figure.update_xaxes(automargin=True, title_standoff=6)
    figure.update_yaxes(automargin=True, title_standoff=6)
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"t": _HEAD_PIXELS, "b": 60, "l": 70, "r": 20},
        legend={"orientation": "h", "y": 1 + 28 / height, "yanchor": "bottom", "x": 0},
    )
    return figure


def cell(place: int, columns: int, n_panels: int) -> dict[str, int]:
    """Return the place of a panel as Plotly's ``row`` and ``col``."""
    columns = min(columns, n_panels)
    return {"row": place // columns + 1, "col": place % columns + 1}


def plain(text: str) -> str:
    """Escape a text for Plotly, which interprets tags and ``%{...}``."""
    return html.escape(text, quote=False).replace("%{", "%\u200b{")


def axis_title(settings: StudySettings, name: str) -> str:
    """Return the title of a metric's axis, with fidelity and unit."""
    unit = get_cost(name).unit if name in cost_names() else ""
    return settings.label(name) + (f" ({unit})" if unit else "")


def whole_steps(last: int, most_ticks: int = 14) -> dict[str, Any]:
    """Return the range and ticks of an axis of whole numbers from 1 to ``last``."""
    step = max(1, math.ceil(last / most_ticks))
    return {"range": [0.4, last + 0.6], "tick0": 1, "dtick": step}


def rounded(values: Iterable[float]) -> list[float]:
    """Round values to five digits, which keeps files small."""
    return [float(f"{value:.5g}") for value in values]
