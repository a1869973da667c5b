"""Every indicator against its definition, on candidates of small spaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import textbook_menu
import torch
from menu_cases import NAMES, ONES, SIZES, SPACES, candidates, textbook

from tftas_optuna import Scorer, SearchSpace, TftasError, get_space
from tftas_optuna.metrics import get_indicator
from tftas_optuna.metrics.registry import indicator_names
from tftas_optuna.ranks import kendall_tau


def test_every_indicator_has_a_textbook_version() -> None:
    names = {name for name in indicator_names() if not get_indicator(name).labelled}
    assert {*NAMES, "dss", "te_score", "az_nas", "tftas", "dss_pp"} == names


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_that_of_the_textbook(name: str, space: str) -> None:
    scorer = Scorer(SPACES[space], indicator=name, dtype=torch.float64, **SIZES)
    for arch in candidates(SPACES[space], 3):
        assert scorer(arch) == pytest.approx(textbook(scorer, arch), rel=1e-6, abs=0)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", NAMES)
def test_float32_loses_few_digits(name: str, space: str) -> None:
    scorer = Scorer(SPACES[space], indicator=name, **SIZES)
    for arch in candidates(SPACES[space], 2):
        assert scorer(arch) == pytest.approx(textbook(scorer, arch), rel=1e-3, abs=0)


def test_what_hangs_on_nearly_equal_gradients_keeps_its_digits_in_float32() -> None:
    """A few weights whose gradients nearly equal each other make up half of a term of ZiCo."""
    scorer = Scorer(SPACES["relative"], indicator="zico", n_images=16, device="cpu")
    for arch in candidates(SPACES["relative"], 4):
        assert scorer(arch) == pytest.approx(textbook(scorer, arch), rel=1e-6, abs=0)


@pytest.mark.parametrize("space", SPACES)
def test_second_derivatives_are_those_of_small_steps(space: str) -> None:
    scorer = Scorer(SPACES[space], indicator="grasp", dtype=torch.float64, **SIZES)
    for arch in candidates(SPACES[space], 2):
        steps = textbook_menu.grasp_by_differences(
            scorer.subnet(arch), scorer.images, scorer.labels
        )
        assert scorer(arch) == pytest.approx(steps, rel=1e-5)


def test_the_two_batches_of_zico_are_different_ones() -> None:
    scorer = Scorer(SPACES["relative"], indicator="zico", **SIZES)
    first, second = scorer.images.chunk(2)
    assert first.shape == second.shape == (4, 3, 32, 32) and not torch.equal(first, second)
    # The first is what an indicator of one batch sees.
    alone = Scorer(SPACES["relative"], indicator="snip", **SIZES)
    assert torch.equal(alone.images, first) and len(scorer.labels) == 8


def test_images_of_noise_and_their_labels_are_those_of_the_seed() -> None:
    one, other = (
        Scorer(SPACES["shared"], indicator="snip", seed=seed, n_images=64) for seed in (0, 1)
    )
    assert one.images.shape == (64, 1, 32, 32) and not torch.equal(one.images, other.images)
    assert abs(float(one.images.mean())) < 0.02 and float(one.images.std()) == pytest.approx(
        1, abs=0.02
    )
    assert set(one.labels.tolist()) == set(range(5))


def test_directions_are_those_of_the_definitions() -> None:
    lower = {n for n in indicator_names() if get_indicator(n).direction == "minimize"}
    assert lower == {"ntk_cond", "cross_entropy"}


@pytest.mark.parametrize("name", ONES)
@pytest.mark.parametrize("space", ["relative", "shared"])
def test_collapsed_values_are_near_exact_ones_and_rank_alike(name: str, space: str) -> None:
    check_collapsed(name, SPACES[space], 24)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONES)
def test_collapsed_values_of_pit_are_near_exact_ones_and_rank_alike(name: str) -> None:
    check_collapsed(name, get_space("pit-tiny"), 10)


def check_collapsed(name: str, space: SearchSpace, count: int) -> None:
    archs = candidates(space, count)
    exact, collapsed = (
        np.array(Scorer(space, indicator=name, fidelity=fidelity, device="cpu").batch(archs))
        for fidelity in ("exact", "collapsed")
    )
    offset = collapsed / exact - 1
    assert abs(offset.mean()) < 3e-3 and offset.std() < 1e-3
    assert kendall_tau(list(exact), list(collapsed)) > 0.95


def test_what_sees_noise_cannot_be_collapsed() -> None:
    for name in set(NAMES) - set(ONES):
        with pytest.raises(TftasError, match=f"'{name}' has no fidelity 'collapsed'; it has: ex"):
            Scorer(SPACES["relative"], indicator=name, fidelity="collapsed")


@pytest.mark.parametrize(
    "name",
    ["synaptic_saliency", "snip", "grad_norm", "grasp", "meco", "zico", "ffn_capacity"],
)
@pytest.mark.parametrize("space", SPACES)
def test_rows_add_up(name: str, space: str) -> None:
    scorer = Scorer(SPACES[space], indicator=name, **SIZES)
    arch = SPACES[space].largest()
    rows = scorer.explain(arch)
    assert math.fsum(row.value for row in rows) == pytest.approx(scorer(arch), rel=1e-12)
    linear = {
        n: tuple(m.weight.shape)
        for n, m in scorer.subnet(arch).named_modules()
        if isinstance(m, torch.nn.Linear)
    }
    if name == "ffn_capacity":
        linear = {n: shape for n, shape in linear.items() if n.endswith("fc1")}
    assert {row.name: row.shape for row in rows} == linear
