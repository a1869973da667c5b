"""What a trained network takes images of each class for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.errors import UnavailableError
from tftas_optuna.plots._drawing import BLUE, panels, plain, rounded

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from tftas_optuna.study.evaluated import TrialEvaluation

_LEAST_PIXELS, _CLASS_PIXELS = 320, 24
# Classes whose cells have room for numbers.
_NUMBERED = 20


def plot_confusion(evaluation: TrialEvaluation) -> Figure:
    """Draw the confusion matrix of a trained network.

    Args:
        evaluation: One of :func:`tftas_optuna.study.evaluated.read_evaluations`.

    Returns:
        A Plotly figure: a row for each class that has images, a column for each prediction, and
        in the cells per cent of the row.

    Raises:
        UnavailableError: The evaluation has no matrix.
    """
    from plotly import graph_objects as graph

    # The first class on top.
    seen = [(n, row) for n, row in zip(evaluation.classes, evaluation.confusion, strict=True)]
    seen = [(name, row) for name, row in reversed(seen) if sum(row)]
    if not seen:
        raise UnavailableError("the evaluation has no confusion matrix")
    shares = [rounded(100 * count / sum(row) for count in row) for _, row in seen]
    classes = [plain(name) for name in evaluation.classes]
    figure = panels([""], 1, max(_LEAST_PIXELS, _CLASS_PIXELS * len(seen) + 60))
    figure.add_trace(
        graph.Heatmap(
            z=shares,
            x=list(range(len(classes))),
            y=list(range(len(seen))),
            zmin=0,
            zmax=100,
            colorscale=[[0, "rgba(58,143,200,0)"], [1, BLUE]],
            text=[[str(count or "") for count in row] for _, row in seen],
            texttemplate="%{text}" if len(classes) <= _NUMBERED else None,
            customdata=[[[plain(name), taken] for taken in classes] for name, _ in seen],
            hovertemplate="%{customdata[0]}: %{z:.1f} % taken for %{customdata[1]}<extra></extra>",
            colorbar={"title": {"text": "%"}},
            xgap=1,
            ygap=1,
        )
    )
    figure.update_xaxes(
        title_text="taken for", tickvals=list(range(len(classes))), ticktext=classes
    )
    figure.update_yaxes(
        title_text="class",
        tickvals=list(range(len(seen))),
        ticktext=[plain(name) for name, _ in seen],
    )
    return figure
