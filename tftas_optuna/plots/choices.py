"""Which choices pay: the mean of an objective over the trials that made each of them."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tftas_optuna.architecture.shape import depth_of
from tftas_optuna.errors import TftasError
from tftas_optuna.plots._drawing import (
    COLOURS,
    GREY,
    axis_title,
    cell,
    graph_objects,
    panels,
    plain,
    rounded,
    whole_steps,
)
from tftas_optuna.plots.trials import finished_trials

if TYPE_CHECKING:
    from optuna import Study
    from plotly.graph_objects import Figure

    from tftas_optuna.architecture import Architecture

_COLUMNS = 4
# Half the width of a 95 % interval, in standard errors.
_HALF_WIDTH = 1.96


class Effect(NamedTuple):
    """What the trials with one choice have more than all that had the choice.

    Attributes:
        dimension: What is chosen, such as ``"num_heads"``.
        block: Where, from 0: the block, or the stage; None for what is chosen once.
        choice: What was chosen.
        mean: Mean of the objective, less the mean over all trials that have this block.
        half: Half the width of its 95 % interval; None of a single trial.
        n_trials: How many trials chose it.
    """

    dimension: str
    block: int | None
    choice: Any
    mean: float
    half: float | None
    n_trials: int


def effects(study: Study, objective: str) -> list[Effect]:
    """Compare the choices of a study by their marginal means.

    What was chosen for blocks that a trial does not have does not count. An architecture counts
    once. Choices that all trials share are left out.

    Raises:
        TftasError: The study has no such objective.
    """
    finished = finished_trials(study)
    settings = finished.settings
    if objective not in settings.objectives:
        raise TftasError(
            f"{objective!r} is no objective of the study; give one of"
            f" {', '.join(settings.objectives)}"
        )
    column = settings.objectives.index(objective)
    by_place: dict[tuple[str, int | None], dict[Any, list[float]]] = {}
    seen = set()
    for trial in finished.trials:
        arch = settings.space.decode(trial.params)
        if arch not in seen:
            seen.add(arch)
            for place, choice in _choices(arch):
                groups = by_place.setdefault(place, {})
                groups.setdefault(choice, []).append(trial.values[column])
    return [
        _effect(place, choice, values, groups)
        for place, groups in by_place.items()
        if len(groups) > 1
        for choice, values in sorted(groups.items())
    ]


def plot_choices(study: Study, objective: str | None = None) -> Figure:
    """Draw which choices pay in one objective.

    A mean says what the trials with a choice have, not what the choice does: a sampler tries wide
    blocks together with deep networks.

    Args:
        study: The study.
        objective: Name of the objective; the first one by default.

    Returns:
        A Plotly figure of ``effects``, with a panel for each dimension: over the choices, or
        where every block has its own, over the blocks with a line for each choice.

    Raises:
        TftasError: The study has no such objective.
        UnavailableError: Plotly is not installed, or the study was not made by this package.
    """
    settings = finished_trials(study).settings
    name = settings.objectives[0] if objective is None else objective
    found = effects(study, name)
    dimensions = list(dict.fromkeys(effect.dimension for effect in found))
    figure = panels([_title(found, name) for name in dimensions] or [""], _COLUMNS)
    staged = isinstance(getattr(settings.space.smallest(), "depth", None), tuple)
    part = "stage" if staged else "block"
    for place, dimension in enumerate(dimensions):
        where = cell(place, _COLUMNS, len(dimensions))
        for number, line in enumerate(_lines(found, dimension)):
            figure.add_trace(_drawn(line, number, part), **where)
        blocks = [effect.block for effect in found if effect.dimension == dimension]
        if None in blocks:
            figure.update_xaxes(title_text="choice", type="category", **where)
        else:
            last = max(1 + (block or 0) for block in blocks)
            figure.update_xaxes(title_text=part, **whole_steps(last, 7), **where)
        figure.update_yaxes(exponentformat="SI", **where)
        figure.add_hline(y=0, line_width=1, line_color=GREY, **where)
    figure.update_yaxes(title_text=axis_title(settings, name), row=1, col=1)
    figure.update_layout(showlegend=False)
    return figure


def _title(found: list[Effect], dimension: str) -> str:
    """Name a panel, and in their colours the choices that are lines in it."""
    lines = _lines(found, dimension)
    if lines[0][0].block is None:
        return plain(dimension)
    colours = itertools.cycle(COLOURS)
    choices = [
        f'<span style="color:{colour}">{_label(line[0])}</span>'
        for line, colour in zip(lines, colours, strict=False)
    ]
    return f"{plain(dimension)}: {', '.join(choices)}"


def _lines(found: list[Effect], dimension: str) -> list[list[Effect]]:
    """Divide the effects in a dimension into lines: one, or one for each choice of a block."""
    lines: dict[Any, list[Effect]] = {}
    for effect in found:
        if effect.dimension == dimension:
            lines.setdefault(None if effect.block is None else effect.choice, []).append(effect)
    return [lines[choice] for choice in sorted(lines)] if None not in lines else [*lines.values()]


def _drawn(line: list[Effect], number: int, part: str) -> Any:
    dimension, block = plain(line[0].dimension), line[0].block
    what = f"{dimension} %{{customdata[0]}}" + ("" if block is None else f", {part} %{{x}}")
    return graph_objects().Scatter(
        x=[_label(e) if e.block is None else e.block + 1 for e in line],
        y=rounded(effect.mean for effect in line),
        error_y={
            "array": rounded(effect.half or 0.0 for effect in line),
            "thickness": 1,
            "width": 2,
        },
        mode="lines+markers",
        line={"color": COLOURS[number % len(COLOURS)]},
        name=dimension if block is None else f"{dimension} {_label(line[0])}",
        customdata=[[_label(effect), effect.n_trials] for effect in line],
        hovertemplate=f"{what}: %{{y:+.4s}}, in %{{customdata[1]}} trials<extra></extra>",
    )


def _label(effect: Effect) -> str:
    return plain(f"{effect.choice:g}" if isinstance(effect.choice, float) else str(effect.choice))


def _choices(arch: Architecture) -> list[tuple[tuple[str, int | None], Any]]:
    """List what was chosen for an architecture, and where; of any family."""
    fields = arch.to_dict()
    depth = depth_of(arch)
    if "depth" not in fields and depth is not None:
        fields["depth"] = depth
    found: list[tuple[tuple[str, int | None], Any]] = []
    for name, value in fields.items():
        if isinstance(value, list):
            found += [((name, block), each) for block, each in enumerate(value)]
        elif name != "family":
            found.append(((name, None), value))
    # A family may have fields that are no plain choices.
    return [(place, choice) for place, choice in found if isinstance(choice, int | float | str)]


def _effect(
    place: tuple[str, int | None], choice: Any, values: list[float], groups: dict[Any, list[float]]
) -> Effect:
    everybody = np.concatenate([np.array(each) for each in groups.values()])
    half = None
    if len(values) > 1:
        half = _HALF_WIDTH * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values) - everybody.mean())
    return Effect(place[0], place[1], choice, mean, half, len(values))
