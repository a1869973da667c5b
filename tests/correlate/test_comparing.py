"""Bands, regrets and signs, on columns small enough to check by hand."""

from __future__ import annotations

import pytest

from tftas_optuna.correlate.comparing import Comparison, Ranked, check_accuracies
from tftas_optuna.errors import UnavailableError

PARAMS = [5.0, 1.0, 4.0, 2.0, 3.0, 10.0, 9.0, 7.0, 8.0, 6.0]
ACCURACY = [50.0, 10.0, 40.0, 20.0, 30.0, 60.0, 70.0, 90.0, 80.0, 100.0]


def test_bands_hold_as_many_architectures_from_few_parameters_to_many() -> None:
    bands = Comparison("acc", ACCURACY, PARAMS, bands=2).bands
    assert [(band.least, band.most) for band in bands] == [(1, 5), (6, 10)]
    assert [set(band.members) for band in bands] == [{0, 1, 2, 3, 4}, {5, 6, 7, 8, 9}]
    assert [band.random_regret for band in bands] == [20.0, 20.0]
    assert len(Comparison("acc", ACCURACY, PARAMS, bands=5).bands) == 2
    assert len(Comparison("acc", ACCURACY, PARAMS, bands=1).bands) == 1


def test_over_all_and_inside_the_bands() -> None:
    """Parameters help in the lower band, do harm in the upper one, and help between them."""
    row = Comparison("acc", ACCURACY, PARAMS, bands=2).compare(Ranked("n_params", PARAMS))
    assert row.taus == (1.0, -1.0) and row.spearmans == (1.0, -1.0)
    assert row.band_tau.value == row.band_spearman.value == 0
    assert row.tau.value == pytest.approx((25 + 10 - 10) / 45)
    assert row.regrets == (0.0, 40.0) and row.regret == 20.0
    assert row.tau.low < row.tau.value < row.tau.high


def test_what_is_better_low_counts_with_the_opposite_sign() -> None:
    comparison = Comparison("acc", ACCURACY, PARAMS, bands=2)
    high = comparison.compare(Ranked("n_params", PARAMS))
    low = comparison.compare(Ranked("loss", [-value for value in PARAMS], sign=-1))
    assert (low.tau, low.spearman, low.regrets) == (high.tau, high.spearman, high.regrets)


def test_picks_that_tie_count_with_their_mean() -> None:
    values = [2.0, 1.0, 2.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    row = Comparison("acc", ACCURACY, PARAMS, bands=2).compare(Ranked("depth", values))
    assert row.regrets == (5.0, 20.0)
    assert row.taus[1] is None and row.band_tau.value == row.taus[0]
    assert row.tau.value is not None


def test_a_metric_that_is_the_same_everywhere_has_no_correlation() -> None:
    row = Comparison("acc", ACCURACY, PARAMS, bands=2).compare(Ranked("width", [1.0] * 10))
    assert row.tau == row.spearman == row.band_tau == (None, None, None)
    assert row.regret == 20.0


def test_what_was_not_trained_is_in_no_band() -> None:
    accuracies = [None, *ACCURACY[1:]]
    comparison = Comparison("acc", accuracies, PARAMS, bands=2)
    assert [sorted(band.members) for band in comparison.bands] == [[*range(1, 10)]]
    assert comparison.compare(Ranked("n_params", PARAMS)).n == 9


@pytest.mark.parametrize(
    ("accuracies", "line"),
    [
        ([1.0, 2.0, 3.0, None, 4.0], "acc is known of 4 architectures; 5 or more are needed"),
        ([71.2] * 9, "acc is 71.2 in every row: nothing to compare with"),
    ],
)
def test_nothing_to_compare_with(accuracies: list[float | None], line: str) -> None:
    with pytest.raises(UnavailableError, match=line):
        check_accuracies("acc", accuracies)
