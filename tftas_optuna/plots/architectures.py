"""Architectures as drawings: a pair of bars for each block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tftas_optuna.plots._drawing import (
    BLUE,
    ORANGE,
    cell,
    graph_objects,
    panels,
    plain,
    whole_steps,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure

    from tftas_optuna.study.front import Candidate

_COLUMNS = 3
_PIXELS = 250


class Block(NamedTuple):
    """What is drawn of one block.

    Attributes:
        heads: Heads of its attention.
        attention: Width of all heads together.
        hidden: Hidden width of its MLP.
    """

    heads: int
    attention: int
    hidden: int


def blocks_of(arch: Any) -> list[Block]:
    """List the blocks of an architecture, of all stages; empty where its family does not tell.

    Told is, by block, ``num_heads``, ``inner_dim`` and ``hidden_dim``; or by stage ``depth``,
    ``num_heads``, ``widths`` and ``hidden_dims``.
    """
    if all(hasattr(arch, name) for name in ("num_heads", "inner_dim", "hidden_dim")):
        return [*map(Block, arch.num_heads, arch.inner_dim, arch.hidden_dim)]
    if all(hasattr(arch, name) for name in ("depth", "num_heads", "widths", "hidden_dims")):
        stages = zip(arch.depth, arch.num_heads, arch.widths, arch.hidden_dims, strict=True)
        return [Block(*block) for depth, *block in stages for _ in range(depth)]
    return []


def plot_architectures(picked: Sequence[Candidate]) -> Figure:
    """Draw architectures, a panel for each.

    Args:
        picked: Members of a front, as :func:`tftas_optuna.pareto_front` returns them.

    Returns:
        A Plotly figure. Upwards the hidden width of every block's MLP, downwards the width of its
        attention, with the number of its heads; on one scale in all panels. Architectures of a
        family that does not tell its blocks are left out.

    Raises:
        UnavailableError: Plotly is not installed.
    """
    told = [candidate for candidate in picked if blocks_of(candidate.architecture)]
    titles = [f"trial {c.trial}: {plain(c.architecture.summary())}" for c in told]
    figure = panels(titles or [""], _COLUMNS, _PIXELS, shared_yaxes="all")
    graph = graph_objects()
    for place, candidate in enumerate(told):
        blocks = blocks_of(candidate.architecture)
        numbers = list(range(1, len(blocks) + 1))
        where = cell(place, _COLUMNS, len(told))
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
    most = max((b.hidden for c in told for b in blocks_of(c.architecture)), default=1)
    widest = max((b.attention for c in told for b in blocks_of(c.architecture)), default=1)
    longest = max((len(blocks_of(c.architecture)) for c in told), default=1)
    # Room for the numbers of heads below the bars.
    figure.update_yaxes(range=[-widest - 0.22 * (most + widest), most * 1.1], showticklabels=False)
    figure.update_xaxes(title_text="block", **whole_steps(longest))
    figure.update_layout(barmode="relative", bargap=0.15)
    return figure
