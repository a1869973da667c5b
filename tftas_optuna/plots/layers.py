"""The contributions of layers to the scores of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.plots._drawing import (
    COLOURS,
    cell,
    panels,
    plain,
    rounded,
    whole_steps,
)
from tftas_optuna.study.front import candidates_of
from tftas_optuna.study.layers import BLOCK, explain
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from plotly.graph_objects import Figure

    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.study.front import Candidate

_COLUMNS = 3


class Layers(NamedTuple):
    """The scores of the layers of one kind in one network.

    Attributes:
        trial: Number of its trial.
        kind: Name of the layer in a block, such as ``"attn.qkv"``.
        values: What the layer of each block adds to the score.
    """

    trial: int
    kind: str
    values: list[float]


def layer_scores(study: Study, picked: Sequence[Candidate]) -> tuple[str, list[Layers]]:
    """Score architectures of a study layer by layer, on its first supernet.

    Returns:
        The label of the first indicator of the study that is a sum over layers, which is scored
        as in the study; and the layers of each architecture, by kind.

    Raises:
        UnavailableError: None of its indicators is such a sum, or its options are not stored.
    """
    picked = candidates_of(picked)
    label, explained = explain(read_settings(study), picked)
    all_layers = []
    for candidate, scores in zip(picked, explained, strict=True):
        for kind, values in _by_kind(scores).items():
            all_layers.append(Layers(candidate.trial, kind, values))
    return label, all_layers


def plot_layers(study: Study, picked: Sequence[Candidate]) -> Figure:
    """Draw what each layer of architectures adds to their scores.

    This draws the study's supernet again and needs one pass per architecture.

    Args:
        study: The study.
        picked: Its architectures to draw.

    Returns:
        A Plotly figure of ``layer_scores``: a panel for each kind of layer, over the blocks,
        with a line for each architecture.

    Raises:
        UnavailableError: None of the indicators of the study is a sum over layers, or its
            options are not stored.
    """
    from plotly import graph_objects as graph

    label, all_layers = layer_scores(study, picked)
    kinds = list(dict.fromkeys(layers.kind for layers in all_layers))
    trials = list(dict.fromkeys(layers.trial for layers in all_layers))
    figure = panels([plain(kind) for kind in kinds] or [""], _COLUMNS)
    for layers in all_layers:
        place = kinds.index(layers.kind)
        number = trials.index(layers.trial)
        figure.add_trace(
            graph.Scatter(
                x=list(range(1, len(layers.values) + 1)),
                y=rounded(layers.values),
                mode="lines+markers",
                name=f"trial {layers.trial}",
                legendgroup=str(layers.trial),
                showlegend=place == 0,
                line={"color": COLOURS[number % len(COLOURS)]},
                hovertemplate=f"trial {layers.trial}, block %{{x}}: %{{y:.4s}}<extra></extra>",
            ),
            **cell(place, _COLUMNS, len(kinds)),
        )
    figure.update_yaxes(title_text=label, exponentformat="SI", rangemode="tozero")
    for place, kind in enumerate(kinds):
        deepest = max(len(layers.values) for layers in all_layers if layers.kind == kind)
        where = cell(place, _COLUMNS, len(kinds))
        if deepest > 1:
            figure.update_xaxes(title_text="block", **whole_steps(deepest), **where)
        else:
            figure.update_xaxes(showticklabels=False, **where)
    return figure


def _by_kind(scores: list[LayerScore]) -> dict[str, list[float]]:
    kinds: dict[str, list[float]] = {}
    for score in scores:
        match = BLOCK.fullmatch(score.name)
        kinds.setdefault(match["kind"] if match else score.name, []).append(score.value)
    return kinds
