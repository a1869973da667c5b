"""Where in a network its score comes from, layer by layer."""

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

# The innermost number in the name of a layer is that of its block.
BLOCK = re.compile(r"(?P<block>.*\.\d+)\.(?P<kind>.+)")


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
