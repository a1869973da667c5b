"""Numbers as people read them."""

from __future__ import annotations

import pytest

from tftas_optuna.metrics.units import costs_alike, count_text, scores_alike


@pytest.mark.parametrize(
    ("scores", "texts"),
    [
        ([12_345.6], ["12,346"]),
        ([10_000.0], ["10,000"]),
        ([1234.56], ["1,234.6"]),
        ([-0.123456], ["-0.12346"]),
        ([36.06, 35.893, None], ["36.060", "35.893", "-"]),
        ([44_094.2, 3.25], ["44,094.20", "3.25"]),
        ([1e-9, 1e20], ["1.0000e-09", "1.0000e+20"]),
        ([0.0, float("inf"), float("nan")], ["0.0000", "inf", "nan"]),
        ([], []),
    ],
)
def test_scores_of_a_column_have_one_format(scores: list[float | None], texts: list[str]) -> None:
    assert scores_alike(scores) == texts


@pytest.mark.parametrize(
    ("costs", "texts"),
    [
        ([36.06, 35.893], ["36.06", "35.89"]),
        ([9.5, 128.4, None], ["9.50", "128.40", "-"]),
        ([5_867_944, 36_400], ["5.87M", "36.40k"]),
        ([16, 8], ["16", "8"]),
    ],
)
def test_costs_of_a_column_have_one_format(costs: list[float | None], texts: list[str]) -> None:
    assert costs_alike(costs) == texts


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (4_320, "4,320"),
        (1_056_964_608, "1,056,964,608"),
        (6_123_000_000_000_000, "about 6.1 × 10^15"),
        (9_990_000_000_000_000, "about 1.0 × 10^16"),
        (7 * 10**400, "about 7.0 × 10^400"),
    ],
)
def test_counts_are_whole_numbers_or_powers_of_ten(count: int, text: str) -> None:
    assert count_text(count) == text
