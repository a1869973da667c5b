"""Indicators of one panel, in batches, on several seeds, and what each of them can tell apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from menu_cases import NAMES, ONES, SIZES, SPACES, candidates
from releases import ROUNDS_OTHERWISE

from tftas_optuna import Scorer
from tftas_optuna.metrics import get_indicator
from tftas_optuna.scoring.panel import Panel

ALL = ["dss", *NAMES]
DTYPES = [torch.float32, torch.float64]


@pytest.mark.parametrize("name", ALL)
def test_a_batch_scores_as_one_by_one(name: str) -> None:
    scorer = Scorer(SPACES["relative"], indicator=name, **SIZES)
    archs = candidates(SPACES["relative"], 5)
    archs.append(archs[1])
    alone = [scorer(arch) for arch in archs]
    assert scorer.batch(archs) == pytest.approx(alone, rel=1e-6 if name == "dss" else 0, abs=0)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_indicators_together_are_each_alone_to_the_last_digit(
    space: str, dtype: torch.dtype
) -> None:
    rounding = (1e-12 if dtype == torch.float64 else 2e-6) if ROUNDS_OTHERWISE else 0.0
    archs = candidates(SPACES[space], 2)
    basis = Scorer(SPACES[space], dtype=dtype, **SIZES).basis
    wanted = [(get_indicator(name), "exact") for name in ALL]
    together = Panel(basis, wanted).by_seed(archs)
    assert list(together) == ALL
    for name in ALL:
        alone = Scorer(SPACES[space], indicator=name, dtype=dtype, **SIZES).by_seed(archs)
        assert np.allclose(together[name], alone, rtol=rounding, atol=0), name
    # Whatever stands beside it, in whatever order.
    turned = Panel(basis, wanted[::-1]).by_seed(archs)
    for name in ALL:
        assert np.allclose(turned[name], together[name], rtol=rounding, atol=0), name


@pytest.mark.parametrize("name", NAMES)
def test_a_value_of_two_seeds_is_the_mean_of_each(name: str) -> None:
    space = SPACES["shared"]
    arch = space.largest()
    both = Scorer(space, indicator=name, n_seeds=2, seed=3, **SIZES)
    each = [Scorer(space, indicator=name, seed=seed, **SIZES)(arch) for seed in (3, 4)]
    assert both.by_seed([arch]) == [tuple(each)]
    assert both(arch) == pytest.approx(sum(each) / 2, rel=1e-15)
    assert name == "ffn_capacity" or each[0] != each[1]


def test_more_images_change_what_sees_them_and_nothing_else() -> None:
    """MeCo looks at the first image alone, others at ones or at nothing."""
    arch = SPACES["relative"].largest()
    for name in NAMES:
        few, many = (
            Scorer(SPACES["relative"], indicator=name, n_images=n, device="cpu")(arch)
            for n in (2, 4)
        )
        assert (few == many) == (name in (*ONES, "ffn_capacity", "meco")), name


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", ALL)
def test_a_value_is_never_constant_over_a_space(name: str, space: str) -> None:
    archs = candidates(SPACES[space], 6)
    values = Scorer(SPACES[space], indicator=name, **SIZES).batch(archs)
    kinds = {arch.costs(img_size=32, num_classes=10) for arch in archs}
    # Two networks may have the signs, or the shapes, of each other.
    assert len(set(values)) >= min(len(kinds), 4)
    assert np.ptp(values) > 1e-3 * abs(np.mean(values))


# One choice of everything, and several of one thing at a time.
FIXED: dict[str, dict[str, Any]] = {
    "relative": {"embed_dim": (64,), "depth": (3,), "num_heads": (2,), "mlp_ratio": (3.0,)},
    "pools": {"base_dim": (8,), "depth": ((1,),) * 3, "num_heads": (2,), "mlp_ratio": (2.0,)},
}
VARIED: list[tuple[str, str, tuple[Any, ...]]] = [
    ("relative", "embed_dim", (32, 48, 64)),
    ("relative", "depth", (1, 2, 3)),
    ("relative", "num_heads", (1, 3)),
    ("relative", "mlp_ratio", (2.0, 4.0)),
    ("pools", "base_dim", (8, 12, 16)),
    ("pools", "depth", ((1, 2), (1,), (1, 2))),
    ("pools", "num_heads", (1, 2, 4)),
    ("pools", "mlp_ratio", (2.0, 3.0, 4.0)),
]


@pytest.mark.parametrize(("space", "what", "choices"), VARIED)
def test_every_choice_alone_is_seen(space: str, what: str, choices: tuple[Any, ...]) -> None:
    """Except for heads, which the capacity of the MLPs does not know where
    they do not change the width.
    """
    varied = dataclasses.replace(SPACES[space], **{**FIXED[space], what: choices})
    archs = candidates(varied, 3)
    for name in ALL:
        values = Scorer(varied, indicator=name, **SIZES).batch(archs)
        blind = name == "ffn_capacity" and (space, what) == ("relative", "num_heads")
        # Two counts of regions can be equal.
        tie = ROUNDS_OTHERWISE and name == "linear_regions"
        assert len(set(values)) == (1 if blind else 3) or (tie and len(set(values)) == 2), name
