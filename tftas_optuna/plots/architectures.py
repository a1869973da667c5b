"""Architectures as drawings: a pair of bars for each block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.architecture.blocks import blocks_of
from tftas_optuna.plots._drawing import (
    BLUE,
    ORANGE,
    cell,
    panels,
    plain,
    whole_steps,
)
from tftas_optuna.study.front import candidates_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure

    from tftas_optuna.study.front import Candidate

_COLUMNS = 3
_PIXELS = 250


def plot_architectures(picked: Sequence[Candidate]) -> Figure:
    """Draw architectures, a panel for each.

    Args:
        picked: Members of a front, as :func:`tftas_optuna.pareto_front` returns them.

    Returns:
        A Plotly figure. Bars show the hidden width of every block's MLP upwards, and the width of
        its attention with the number of heads downwards, on the same scale in all panels.
        Architectures of families that do not describe their blocks are left out.
    """
    drawn = [candidate for candidate in candidates_of(picked) if blocks_of(candidate.architecture)]
    titles = [f"trial {c.trial}: {plain(c.architecture.summary())}" for c in drawn]
    figure = panels(titles or [""], _COLUMNS, _PIXELS, shared_yaxes="all")
    from plotly import graph_objects as graph

    for place, candidate in enumerate(drawn):
        blocks = blocks_of(candidate.architecture)
        numbers = list(range(1, len(blocks) + 1))
        where = cell(place, _COLUMNS, len(drawn))
        heads = [block.heads for block in blocks]
        common = {"x": numbers, "showlegend": place == 0}
        figure.add_trace(
            graph.Bar(
                y=[block.hidden for block in blocks],
                name="hidden width of the MLP",
                legendgroup="mlp",
                marker={"color": BLUE},
                hovertemplate="block %{x}: hidden width %{y}<extra></extra>",
                **common,
            ),
            **where,
        )
        figure.add_trace(
            graph.Bar(
                y=[-block.attention for block in blocks],
                name="width of the attention, with its heads",
                legendgroup="attention",
                marker={"color": ORANGE},
                text=heads,
                textposition="outside",
                textfont={"color": ORANGE},
                cliponaxis=False,
                customdata=[block.attention for block in blocks],
                hovertemplate="block %{x}: %{text} heads, %{customdata} wide<extra></extra>",
                **common,
            ),
            **where,
        )
    most = max((b.hidden for c in drawn for b in blocks_of(c.architecture)), default=1)
    widest = max((b.attention for c in drawn for b in blocks_of(c.architecture)), default=1)
    longest = max((len(blocks_of(c.architecture)) for c in drawn), default=1)
    # Room for the numbers of heads below the bars.
    figure.update_yaxes(range=[-widest - 0.22 * (most + widest), most * 1.1], showticklabels=False)
    figure.update_xaxes(title_text="block", **whole_steps(longest))
    figure.update_layout(barmode="relative", bargap=0.15)
    return figure
