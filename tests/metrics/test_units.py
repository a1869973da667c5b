from __future__ import annotations

from tftas_optuna.metrics.units import name_numbers


def test_numbers_in_a_row_are_drawn_together() -> None:
    assert name_numbers([1, 2, 3, 5, 7, 8], "row") == "rows 1-3, 5, 7-8"
    assert name_numbers([4], "trial") == "trial 4"
