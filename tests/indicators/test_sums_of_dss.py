"""The two sums that DSS consists of, each by itself and with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from menu_cases import SIZES, SPACES, candidates

from tftas_optuna import Scorer
from tftas_optuna.metrics import get_indicator
from tftas_optuna.passes.gradient import ProductGradients
from tftas_optuna.scoring.panel import Panel

NAMES = ("dss", "synaptic_diversity", "synaptic_saliency")


@pytest.mark.parametrize("fidelity", ["exact", "collapsed"])
@pytest.mark.parametrize("space", SPACES)
def test_they_add_up_to_it(space: str, fidelity: str) -> None:
    archs = candidates(SPACES[space], 5)

    def scores(name: str, **options: Any) -> list[float]:
        scorer = Scorer(
            SPACES[space],
            indicator=name,
            fidelity=fidelity,
            dtype=torch.float64,
            **SIZES,
            **options,
        )
        return scorer.batch(archs)

    for head in (1.0, 2.0):
        diversity = scores("synaptic_diversity")
        saliency = scores("synaptic_saliency", head_weight=head)
        both = [sum(pair) for pair in zip(diversity, saliency, strict=True)]
        assert scores("dss", head_weight=head) == pytest.approx(both, rel=1e-12)


def test_together_they_take_no_sum_that_it_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str) -> None:
        original = getattr(ProductGradients, name)

        def call(self: ProductGradients, *args: Any) -> Any:
            calls.append(name)
            return original(self, *args)

        monkeypatch.setattr(ProductGradients, name, call)

    for name in ("nuclear_norms", "saliencies"):
        counted(name)
    basis = Scorer(SPACES["relative"], **SIZES).basis
    taken = []
    for names in (NAMES[:1], NAMES):
        calls.clear()
        panel = Panel(basis, [(get_indicator(name), "exact") for name in names])
        panel.by_seed([SPACES["relative"].largest()])
        taken.append(sorted(calls))
    assert taken[0] == taken[1] and set(taken[0]) == {"nuclear_norms", "saliencies"}
