"""Fusions: ranks in a fixed sample, by counting, whoever else is scored."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import textbook_menu
from menu_cases import SIZES, SPACES, candidates

from tftas_optuna import Scorer, TftasError, register_indicator
from tftas_optuna.architecture import Architecture
from tftas_optuna.indicators import FusionIndicator, register_fusion
from tftas_optuna.indicators.fusion import N_REFERENCE, rank, reference_sample
from tftas_optuna.metrics import get_indicator, metric_names, registry

SPACE = SPACES["shared"]


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(registry.METRICS, "registered", {})


@pytest.mark.parametrize("ties", [False, True])
def test_a_rank_is_what_counting_finds(ties: bool) -> None:
    rng = np.random.default_rng(0)
    sample = sorted((rng.integers(0, 40, 256) if ties else rng.normal(size=256)).tolist())
    queries = [*sample[::17], *rng.normal(0, 30, 200), sample[0] - 1e9, sample[-1] + 1e9]
    for value in queries:
        counted = (1 + textbook_menu.place(float(value), sample)) / 257
        assert rank(float(value), sample) == pytest.approx(counted, rel=1e-12)


def test_a_greater_value_has_a_greater_rank_within_the_bounds() -> None:
    rng = np.random.default_rng(1)
    sample = sorted(rng.normal(size=256).tolist())
    values = np.sort(np.concatenate([rng.normal(0, 3, 500), [-1e6, 1e6]]))
    ranks = [rank(float(value), sample) for value in values]
    assert all(one < other for one, other in zip(ranks, ranks[1:], strict=False))
    assert ranks[0] == pytest.approx(1 / 257, rel=1e-3) and ranks[0] > 1 / 257
    assert ranks[-1] == pytest.approx(1, rel=1e-3) and ranks[-1] < 1


def test_a_sample_of_one_value_leaves_ranks() -> None:
    for only in (0.0, 3.0):
        low, middle, high = (rank(only + step, [only] * 256) for step in (-1.0, 0.0, 1.0))
        assert 1 / 257 < low < middle == 129 / 257 < high < 1


def test_a_sample_is_drawn_with_the_seed() -> None:
    rng = np.random.default_rng(5)
    drawn = [SPACE.sample(rng) for _ in range(256)]
    assert drawn == reference_sample(SPACE, 5) and len(drawn) == N_REFERENCE


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("te_score", {"ntk_cond": -1, "linear_regions": 1}),
        ("dss_pp", {"synaptic_diversity": 1, "synaptic_saliency": 1}),
        ("az_nas", {"expressivity": 1, "trainability": 1, "macs": 1}),
    ],
)
def test_a_published_fusion_is_that_of_its_ranks(
    name: str, parts: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less of a condition is better, and more of MACs, which stand for complexity."""
    monkeypatch.setattr("tftas_optuna.indicators.fusion.N_REFERENCE", 40)
    scorer = Scorer(SPACE, indicator=name, seed=5, **SIZES)
    drawn = reference_sample(SPACE, 5)
    assert len(drawn) == 40

    def values(archs: list[Architecture]) -> list[list[float]]:
        columns = []
        for part, sign in parts.items():
            if part == "macs":
                found = [float(a.costs(img_size=32, num_classes=5).macs) for a in archs]
            else:
                found = Scorer(SPACE, indicator=part, seed=5, **SIZES).batch(archs)
            columns.append([sign * value for value in found])
        return columns

    archs = candidates(SPACE, 6)
    samples = values(drawn)
    expected = [
        textbook_menu.fused(list(row), samples) for row in zip(*values(archs), strict=True)
    ]
    assert scorer.batch(archs) == pytest.approx(expected, rel=1e-9)
    assert len(set(expected)) == len(archs)
    # Alone, and by a copy that knows the reference.
    assert scorer(archs[3]) == scorer.batch(archs)[3]
    again = pickle.loads(pickle.dumps(scorer))
    assert again.known_reference == scorer.known_reference
    assert again(archs[3]) == scorer(archs[3])


def test_a_value_does_not_depend_on_who_else_is_scored() -> None:
    register_fusion("mine", ["ffn_capacity", "n_params"])
    archs = candidates(SPACE, 12)
    together = Scorer(SPACE, indicator="mine", **SIZES).batch(archs)
    alone = [Scorer(SPACE, indicator="mine", **SIZES)(arch) for arch in archs[:2]]
    assert together[:2] == alone
    assert Scorer(SPACE, indicator="mine", **SIZES).batch(archs[::-1]) == together[::-1]
    assert all(-2 * math.log(257) < value < 0 for value in together)


def test_every_seed_has_a_sample_of_its_own_weights() -> None:
    register_fusion("mine", ["naswot", "macs"])
    scorer = Scorer(SPACE, indicator="mine", n_seeds=2, **SIZES)
    scorer(SPACE.largest())
    reference = scorer.known_reference
    assert reference is not None and set(reference) == {"naswot", "macs"}
    first, second = reference["naswot"]
    assert len(first) == len(second) == 256 and first != second
    assert first == sorted(first) and reference["macs"][0] == reference["macs"][1]


def test_less_is_better_of_an_indicator_that_is_minimised() -> None:
    capacity = get_indicator("ffn_capacity")
    register_indicator("up", capacity)
    register_indicator("down", lambda model, images: 1.0, direction="minimize")
    fusion = FusionIndicator("mine", parts=("down",))
    sample = {"down": [float(i) for i in range(256)]}
    up = FusionIndicator("mine", parts=("up",))
    for value in (-7.0, 3.0, 100.25, 900.0):
        mirrored = up.combine(
            SPACE.smallest(), {"up": 255 - value}, {"up": [255 - v for v in sample["down"][::-1]]}
        )
        found = fusion.combine(SPACE.smallest(), {"down": value}, sample)
        assert found == pytest.approx(mirrored, rel=1e-12)


def test_more_is_better_of_a_cost() -> None:
    register_fusion("mine", ["n_params"])
    least, most = Scorer(SPACE, indicator="mine", **SIZES).batch(
        [SPACE.smallest(), SPACE.largest()]
    )
    assert least < most


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "fusion 'mine' has no parts; name indicators or costs"),
        (
            ["snip", "nope"],
            "'mine' is made of 'nope', which does not exist; known: accuracy, auto_prox_a",
        ),
        (["snip", "snip"], "'mine' is made of snip, snip: one is there twice"),
        (["snip", "az_nas"], "'mine' is made of 'az_nas', which is itself made of others"),
    ],
)
def test_parts_that_cannot_be_are_refused(parts: list[str], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        register_fusion("mine", parts)
    assert "mine" not in metric_names()


def test_names_that_are_taken_or_cannot_be_are_refused() -> None:
    for name, message in (("snip", "snip"), ("Mine!", "cannot be a name")):
        with pytest.raises(TftasError, match=message):
            register_fusion(name, ["naswot"])
    register_fusion("mine", ["naswot"])
    with pytest.raises(TftasError, match="mine"):
        register_fusion("mine", ["snip"])
    register_fusion("mine", ["snip"], replace=True)
    assert get_indicator("mine").parts == ("snip",)


def test_a_measured_cost_cannot_be_ranked() -> None:
    register_fusion("mine", ["latency"])
    with pytest.raises(TftasError, match="'mine' cannot be made of cost 'latency', which has no"):
        Scorer(SPACE, indicator="mine")


def test_a_fusion_has_no_layers() -> None:
    register_fusion("mine", ["ffn_capacity", "n_params"])
    with pytest.raises(TftasError, match="'mine' is one number, not a sum over layers"):
        Scorer(SPACE, indicator="mine", **SIZES).explain(SPACE.smallest())
