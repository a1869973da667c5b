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
    """The difference between trials with one choice and all trials that had the choice.

    Attributes:
        dimension: Name of the choice, such as ``"num_heads"``.
        block: Index of the block or stage; None for a choice made once per network.
        choice: The value that was chosen.
        mean: Mean of the objective, minus the mean over all trials that have this block.
        half: Half the width of its 95 % interval; None for a single trial.
        n_trials: Number of trials that chose it.
    """

    dimension: str
    block: int | None
    choice: Any
    mean: float
    half: float | None
    n_trials: int


def effects(study: Study, objective: str) -> list[Effect]:
    """Compare the choices of a study by their marginal means.

    Choices for blocks that a network does not have do not count, and an architecture counts once.
    Choices that all trials share are left out.

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

    A mean describes the trials with a choice, not the effect of the choice alone: a sampler may
    try wide blocks together with deep networks.

    Args:
        study: The study.
        objective: Name of the objective; the first one by default.

    Returns:
        A Plotly figure of ``effects``, with a panel for each dimension: over its choices, or if
        every block has its own choice, over the blocks with a line for each choice.

    Raises:
        TftasError: The study has no such objective.
        UnavailableError: The study was not made by this package.
    """
    settings = finished_trials(study).settings
    name = settings.objectives[0] if objective is None else objective
    all_effects = effects(study, name)
    dimensions = list(dict.fromkeys(effect.dimension for effect in all_effects))
    figure = panels([_title(all_effects, name) for name in dimensions] or [""], _COLUMNS)
    staged = isinstance(getattr(settings.space.smallest(), "depth", None), tuple)
    part = "stage" if staged else "block"
    for place, dimension in enumerate(dimensions):
        where = cell(place, _COLUMNS, len(dimensions))
        for number, line in enumerate(_lines(all_effects, dimension)):
            figure.add_trace(_drawn(line, number, part), **where)
        blocks = [effect.block for effect in all_effects if effect.dimension == dimension]
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


def _title(effects: list[Effect], dimension: str) -> str:
    """Return the title of a panel, with the choices in the colours of their lines."""
    lines = _lines(effects, dimension)
    if lines[0][0].block is None:
        return plain(dimension)
    colours = itertools.cycle(COLOURS)
    choices = [
        f'<span style="color:{colour}">{_label(line[0])}</span>'
        for line, colour in zip(lines, colours, strict=False)
    ]
    return f"{plain(dimension)}: {', '.join(choices)}"


def _lines(effects: list[Effect], dimension: str) -> list[list[Effect]]:
    """Divide the effects in a dimension into lines: one, or one for each choice of a block."""
    lines: dict[Any, list[Effect]] = {}
    for effect in effects:
        if effect.dimension == dimension:
            lines.setdefault(None if effect.block is None else effect.choice, []).append(effect)
    return [lines[choice] for choice in sorted(lines)] if None not in lines else [*lines.values()]


def _drawn(line: list[Effect], number: int, part: str) -> Any:
    from plotly.graph_objects import Scatter

    dimension, block = plain(line[0].dimension), line[0].block
    what = f"{dimension} %{{customdata[0]}}" + ("" if block is None else f", {part} %{{x}}")
    return Scatter(
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
    """Return the choices of an architecture of any family, by dimension and block."""
    fields = arch.to_dict()
    depth = depth_of(arch)
    if "depth" not in fields and depth is not None:
        fields["depth"] = depth
    choices: list[tuple[tuple[str, int | None], Any]] = []
    for name, value in fields.items():
        if isinstance(value, list):
            choices += [((name, block), choice) for block, choice in enumerate(value)]
        elif name != "family":
            choices.append(((name, None), value))
    # Some fields of a family may not be plain choices.
    return [(place, choice) for place, choice in choices if isinstance(choice, int | float | str)]


def _effect(
    place: tuple[str, int | None], choice: Any, values: list[float], groups: dict[Any, list[float]]
) -> Effect:
    all_values = np.concatenate([np.array(group) for group in groups.values()])
    half = None
    if len(values) > 1:
        half = _HALF_WIDTH * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values) - all_values.mean())
    return Effect(place[0], place[1], choice, mean, half, len(values))
