"""Kendall's tau against its definition, and in little memory."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from tftas_optuna.ranks import kendall_tau


def tau_a(first: Sequence[float], second: Sequence[float]) -> float:
    """Compare every pair, as the definition says."""
    pairs = list(itertools.combinations(zip(first, second, strict=True), 2))
    signs = [np.sign(a - c) * np.sign(b - d) for (a, b), (c, d) in pairs]
    return sum(signs) / len(pairs)


def sequences(size: int, values: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((size, values))
    first = rng.integers(0, values, size).astype(float)
    return first, np.round(first + rng.normal(0, values / 3, size))


@pytest.mark.parametrize("values", [2, 5, 1000], ids=lambda n: f"{n} values")
@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 9, 31, 64, 65, 100])
def test_tau_is_what_all_pairs_say(size: int, values: int) -> None:
    first, second = sequences(size, values)
    assert kendall_tau(first, second) == tau_a(first, second)


def test_the_same_order_is_one_and_the_reverse_minus_one() -> None:
    first = [3.0, 1.0, 4.0, 1.5, 5.0]
    assert kendall_tau(first, first) == 1
    assert kendall_tau(first, [-x for x in first]) == -1


def test_what_is_equal_everywhere_is_not_correlated() -> None:
    assert kendall_tau([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == 0


@pytest.mark.parametrize("few", [[], [2.0]])
def test_fewer_than_two_values_agree(few: list[float]) -> None:
    assert kendall_tau(few, few) == 1


def test_nan_has_no_rank() -> None:
    assert math.isnan(kendall_tau([1.0, math.nan, 3.0], [1.0, 2.0, 3.0]))


@pytest.mark.parametrize("values", [4, 10**6], ids=["ties", "hardly any"])
def test_as_scipy_computes_it(values: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = sequences(3000, values)
    # SciPy's tau-b divides by the pairs that are not tied.
    pairs = 3000 * 2999 / 2
    untied = [
        pairs - sum(n * (n - 1) / 2 for n in np.unique(x, return_counts=True)[1])
        for x in (first, second)
    ]
    tau_b = kendall_tau(first, second) * pairs / math.sqrt(untied[0] * untied[1])
    assert tau_b == pytest.approx(stats.kendalltau(first, second).statistic, rel=1e-12)


def test_memory_grows_with_the_values_and_not_with_their_pairs() -> None:
    first, second = sequences(20_000, 10**6)
    tracemalloc.start()
    kendall_tau(first, second)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * len(first)
