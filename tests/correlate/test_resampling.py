"""Rank correlations of resamples against their definitions, pair by pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import mean

import numpy as np
import pytest

from tftas_optuna.correlate.comparing import draw_resamples, interval
from tftas_optuna.ranks import resampled_spearman, resampled_tau_b


def sign(x: float) -> int:
    return (x > 0) - (x < 0)


def tau_b(a: Sequence[float], b: Sequence[float]) -> float:
    signs = [(sign(a[i] - a[j]), sign(b[i] - b[j])) for i, j in combinations(range(len(a)), 2)]
    untied = [sum(pair[side] != 0 for pair in signs) for side in (0, 1)]
    if not all(untied):
        return math.nan
    return sum(x * y for x, y in signs) / math.sqrt(untied[0] * untied[1])


def ranks(values: Sequence[float]) -> list[float]:
    return [
        mean(i for i, other in enumerate(sorted(values), start=1) if other == value)
        for value in values
    ]


def rho(a: Sequence[float], b: Sequence[float]) -> float:
    x, y = ranks(a), ranks(b)
    x, y = [v - mean(x) for v in x], [v - mean(y) for v in y]
    below = math.sqrt(sum(v * v for v in x) * sum(v * v for v in y))
    return sum(v * w for v, w in zip(x, y, strict=True)) / below if below else math.nan


def columns(ties: bool, size: int = 17) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(int(ties))
    first = rng.integers(0, 4, size).astype(float) if ties else rng.normal(size=size)
    return first, np.round(first + rng.normal(size=size), 0 if ties else 9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("fast", "textbook"), [(resampled_tau_b, tau_b), (resampled_spearman, rho)], ids=["tau", "rho"]
)
def test_resamples_are_what_they_would_be_written_out(
    fast: object, textbook: object, ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tftas_optuna.ranks._ROWS", 5)
    first, second = columns(ties)
    counts = np.concatenate([np.ones((1, 17)), draw_resamples(17, 20, seed=1)])
    for found, times in zip(fast(first, second, counts), counts.astype(int), strict=True):
        written_out = [np.repeat(values, times).tolist() for values in (first, second)]
        assert found == pytest.approx(textbook(*written_out), abs=1e-12)


def test_as_scipy_computes_them() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = columns(ties=True, size=300)
    one = np.ones((1, 300))
    assert resampled_tau_b(first, second, one)[0] == pytest.approx(
        stats.kendalltau(first, second).statistic
    )
    assert resampled_spearman(first, second, one)[0] == pytest.approx(
        stats.spearmanr(first, second).statistic
    )


def test_what_is_the_same_everywhere_has_no_correlation() -> None:
    counts = np.array([[1.0, 1.0, 1.0], [3.0, 0.0, 0.0]])
    same, other = np.array([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])
    for statistic in (resampled_tau_b, resampled_spearman):
        assert np.isnan(statistic(same, other, counts)).all()
        assert np.isnan(statistic(other, other, counts)).tolist() == [False, True]


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Of a normal pair with correlation r, tau is 2/pi asin(r)."""
    rng, r = np.random.default_rng(0), 0.6
    truth, hits = 2 / math.pi * math.asin(r), 0
    for seed in range(60):
        first = rng.normal(size=50)
        second = r * first + math.sqrt(1 - r * r) * rng.normal(size=50)
        found = interval(resampled_tau_b(first, second, draw_resamples(50, 200, seed)))
        assert found is not None
        hits += found[0] <= truth <= found[1]
    assert 50 <= hits


def test_resamples_are_as_large_as_the_sample_and_always_the_same() -> None:
    drawn = draw_resamples(11, 100, seed=0)
    assert drawn.shape == (100, 11) and (drawn.sum(axis=1) == 11).all()
    assert (drawn == draw_resamples(11, 100, seed=0)).all()
    assert interval(np.array([np.nan, np.nan])) is None
    assert interval(np.array([np.nan, *range(101)])) == (2.5, 97.5)
