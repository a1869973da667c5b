"""Scores that are not finite are missing values: told, left out, and not the end of the work."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tables import SIZES, draw, table_rows, write_csv
from torch import nn

from tftas_optuna import (
    AutoFormerSpace,
    Execution,
    UnavailableError,
    correlate,
    register_fusion,
    register_indicator,
)
from tftas_optuna.cli import main
from tftas_optuna.correlate import Correlations
from tftas_optuna.correlate.comparing import Comparison, Ranked
from tftas_optuna.correlate.figure import points_of
from tftas_optuna.metrics import registry

Correlate = Callable[..., Correlations]


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two indicators of the user's: one fails for networks 32 wide, the other for all."""
    monkeypatch.setattr(registry.METRICS, "registered", dict(registry.METRICS.registered))
    monkeypatch.setattr("tftas_optuna.correlate.scoring._seconds_alone", lambda *_: 0.001)
    monkeypatch.setattr("tftas_optuna.indicators.fusion.N_REFERENCE", 12)

    def half(model: nn.Module, images: torch.Tensor) -> float:
        return math.inf if model.num_features == 32 else len(list(model.modules()))

    register_indicator("half", half)
    register_indicator("void", lambda model, images: math.nan)


@pytest.fixture
def table(small_space: AutoFormerSpace, tmp_path: Path) -> Path:
    return write_csv(tmp_path / "t.csv", table_rows(draw(small_space, 24)))


@pytest.fixture
def run(small_space: AutoFormerSpace, table: Path) -> Correlate:
    def run(*indicators: str, **options: Any) -> Correlations:
        options = {"execution": Execution("cpu"), "bands": 2, **SIZES, **options}
        return correlate(table, small_space, indicators=indicators, **options)

    return run


def narrow(found: Correlations) -> list[int]:
    """Numbers of the rows that have no score, which others have."""
    return [i for i, a in enumerate(found.architectures, start=1) if a.embed_dim == 32]


def test_what_has_no_score_is_told_by_its_rows_and_left_out_there_alone(run: Correlate) -> None:
    found = run("dss", "half", "naswot", n_images=4)
    missing = narrow(found)
    assert 0 < len(missing) < 24
    (note,) = found.notes
    assert note.startswith("half has no finite value in rows ") and note.endswith(
        ": left out of what is compared with it"
    )
    assert str(missing[0]) in note
    values = found.values["half"]
    assert [i for i, value in enumerate(values, start=1) if value is None] == missing
    n = {row.metric: row.n for row in found.rows}
    assert n.pop("half") == 24 - len(missing) and set(n.values()) == {24}
    # The other scores are what they are without it.
    assert found.values["naswot"] == run("naswot", n_images=4).values["naswot"]
    half = next(panel for panel in points_of(found, "top1") if panel.metric == "half")
    assert len(half.x) == len(half.y) == len(half.bands) == len(half.labels) == n_of(found, "half")


def n_of(found: Correlations, metric: str) -> int:
    return next(row.n for row in found.rows if row.metric == metric)


def test_tau_is_over_the_others(run: Correlate, small_space: AutoFormerSpace) -> None:
    found = run("half", bands=1)
    kept = [i for i, value in enumerate(found.values["half"]) if value is not None]
    accuracies = [found.accuracies["top1"][i] for i in kept]
    values = [found.values["half"][i] for i in kept]
    alone = Comparison("top1", accuracies, range(len(kept)), bands=1)
    expected = alone.compare(Ranked("half", values))
    (row,) = (row for row in found.rows if row.metric == "half")
    assert (row.tau.value, row.spearman.value) == (expected.tau.value, expected.spearman.value)
    assert row.tau.low < row.tau.value < row.tau.high


def test_an_indicator_without_any_score_is_a_row_of_dashes(
    run: Correlate, small_space: AutoFormerSpace, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run("void", "dss")
    (row,) = (row for row in found.rows if row.metric == "void")
    assert (row.n, row.tau.value, row.band_tau.value, row.regret) == (0, None, None, None)
    assert found.notes == (
        "void has no finite value in rows 1-24: left out of what is compared with it",
    )
    monkeypatch.setattr("tftas_optuna.spaces.get_space", lambda name: small_space)
    command = ["correlate", str(table), "--space", "s", "--img-size", "32", "--num-classes", "10"]
    done = CliRunner().invoke(main, [*command, "--indicators", "void", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    (line,) = (line for line in done.stdout.splitlines() if "void" in line)
    assert [cell.strip() for cell in line.split("│")[2:6]] == ["-"] * 4


def test_a_missing_score_is_kept_as_such(run: Correlate, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("half", "dss")

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("tftas_optuna.scoring.execution.Execution.open_pool", never)
    assert run("half", "dss") == first


def test_a_fusion_that_has_nothing_to_rank_among_is_not_defined(run: Correlate) -> None:
    register_fusion("mine", ("void", "macs"))
    found = run("mine", "dss")
    assert found.notes == (
        "mine is not defined: void is finite for 0 of the 12 architectures of its reference"
        " sample",
    )
    assert set(found.values["mine"]) == {None} and n_of(found, "dss_collapsed") == 24
    assert run("mine", "dss") == found


def test_an_eigenvalue_of_nothing_finite_is_missing_too(
    run: Correlate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tftas_optuna.indicators.measures import expressivity

    feature = expressivity._Tally.feature

    def broken(self: Any, tokens: torch.Tensor) -> None:
        feature(self, tokens * math.nan if tokens.shape[1] == 32 else tokens)

    monkeypatch.setattr(expressivity._Tally, "feature", broken)
    found = run("expressivity", "linear_regions", n_images=4)
    assert n_of(found, "expressivity") == 24 - len(narrow(found))
    assert n_of(found, "linear_regions") == 24


def test_a_fusion_ranks_among_what_is_finite_of_its_sample(run: Correlate) -> None:
    register_fusion("mine", ("half", "macs"))
    found = run("mine")
    missing = narrow(found)
    values = found.values["mine"]
    assert [i for i, value in enumerate(values, start=1) if value is None] == missing
    assert 0 < len(missing) < 24 and run("mine") == found


def test_a_calibration_learns_from_the_rows_that_have_all(run: Correlate, table: Path) -> None:
    found = run("half", calibrate="learned")
    assert found.calibration is not None and found.calibration.n == n_of(found, "half")
    assert n_of(found, "learned (left out)") == found.calibration.n
    with pytest.raises(UnavailableError, match="cannot be calibrated on 0 networks, needed are"):
        run("void", calibrate="learned")
