"""The contributions of layers to the score of a candidate."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics import get_indicator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

# The last number in the name of a layer is that of its block.
BLOCK = re.compile(r"(?P<block>.*\.\d+)\.(?P<kind>.+)")


def explain(
    settings: StudySettings, candidates: Sequence[Candidate]
) -> tuple[str, list[list[LayerScore]]]:
    """Score candidates of a study layer by layer, on its first supernet.

    The indicator is the first one of the study that is a sum over layers, at the study's fidelity.

    Returns:
        The label of the indicator, and the contributions of the layers of each candidate.

    Raises:
        UnavailableError: No indicator of the study is a sum over layers, or it has options, which
            a study does not restore.
    """
    name = _layer_indicator(settings)
    from tftas_optuna.scoring.basis import Basis
    from tftas_optuna.scoring.scorer import Scorer

    first = dataclasses.replace(settings.conditions, n_seeds=1)
    fidelity = settings.fidelity if name in settings.approximated else "exact"
    scorer = Scorer(Basis(first, "cpu"), indicator=name, fidelity=fidelity)
    return settings.label(name), [scorer.explain(c.architecture) for c in candidates]


def _layer_indicator(settings: StudySettings) -> str:
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
