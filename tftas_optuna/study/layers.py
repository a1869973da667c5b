"""Where in a network its score comes from: layer by layer, and block by block."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.metrics import get_indicator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

# The innermost number in the name of a layer is that of its block.
BLOCK = re.compile(r"(?P<block>.*\.\d+)\.(?P<kind>.+)")
# Parameters of the largest network of a space: of smaller ones a pass takes milliseconds.
_CHEAP = 5e6


def explain(
    settings: StudySettings, picked: Sequence[Candidate]
) -> tuple[str, list[list[LayerScore]]]:
    """Score architectures of a study layer by layer, on its first supernet.

    Returns:
        What was scored: the first indicator of the study that is a sum over layers, as the study
        computes it; and the layers of each architecture.

    Raises:
        UnavailableError: None of its indicators is such a sum, or its options are not kept.
    """
    name = _summed(settings)
    from tftas_optuna.scoring.basis import Basis
    from tftas_optuna.scoring.scorer import Scorer

    first = dataclasses.replace(settings.conditions, n_seeds=1)
    fidelity = settings.fidelity if name in settings.approximated else "exact"
    scorer = Scorer(Basis(first, "cpu"), indicator=name, fidelity=fidelity)
    return settings.label(name), [scorer.explain(each.architecture) for each in picked]


def shares_by_block(settings: StudySettings, picked: Sequence[Candidate]) -> dict[int, str]:
    """Tell what share of a score each block has, where that costs next to nothing.

    It does in a study of small networks that approximates its indicator.

    Returns:
        A line by number of the trial; empty where it would take long, or is not known.
    """
    if not settings.approximated:
        return {}
    largest = settings.space.largest().costs(**settings.target.input)
    if largest.n_params > _CHEAP:
        return {}
    try:
        label, found = explain(settings, picked)
    except TftasError:
        return {}
    return {
        candidate.trial: line
        for candidate, layers in zip(picked, found, strict=True)
        if (line := _shares(label, layers)) is not None
    }


def _shares(label: str, layers: Sequence[LayerScore]) -> str | None:
    total = sum(layer.value for layer in layers)
    parts: dict[str, list[float]] = {}
    for layer in layers:
        match = BLOCK.fullmatch(layer.name)
        if match is not None:
            parts.setdefault(match["block"], []).append(layer.value)
    # A single layer with a number joins stages, or the like.
    blocks = [sum(values) for values in parts.values() if len(values) > 1]
    if not blocks or not total > 0:
        return None
    told = ", ".join(f"{100 * value / total:.0f}" for value in blocks)
    rest = 100 * (1 - sum(blocks) / total)
    return f"{label} by block: {told} %; outside of them {rest:.0f} %."


def _summed(settings: StudySettings) -> str:
    for name in settings.indicators:
        if get_indicator(name).sums_layers:
            if name in settings.options:
                raise UnavailableError(
                    f"the study has options of {name} that are not the usual ones; use"
                    " Scorer(space, ...).explain with the same"
                )
            return name
    names = ", ".join(settings.indicators) or "it has none"
    raise UnavailableError(f"no indicator of the study is a sum over layers ({names})")
