"""From a table to correlations: scored as in a search, kept, and resumed."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from tables import SIZES, draw, table_rows, write_csv

from tftas_optuna import (
    Architecture,
    AutoFormerSpace,
    Execution,
    Scorer,
    TftasError,
    UnavailableError,
    correlate,
    get_space,
    register_fusion,
    register_indicator,
    search,
)
from tftas_optuna.architecture.shape import shape_columns
from tftas_optuna.correlate import Correlations
from tftas_optuna.metrics import registry
from tftas_optuna.scoring import task
from tftas_optuna.study.accuracy import record_accuracy

Correlate = Callable[..., Correlations]


@pytest.fixture
def table(small_space: AutoFormerSpace, tmp_path: Path) -> Path:
    return write_csv(tmp_path / "trained.csv", table_rows(draw(small_space, 24)))


@pytest.fixture
def run(small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch) -> Correlate:
    """Correlate DSS, collapsed, without taking its time."""
    monkeypatch.setattr("tftas_optuna.correlate.scoring._seconds_alone", lambda *_: 0.001)

    def run(table: Path | optuna.Study, **options: Any) -> Correlations:
        space = () if isinstance(table, optuna.Study) else (small_space,)
        options = {"indicators": ["dss"], "bands": 3, "execution": Execution("cpu"), **options}
        return correlate(table, *space, **{**SIZES, **options})

    return run


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[list[Architecture]]:
    """Architectures that were scored, pass by pass."""
    passes: list[list[Architecture]] = []

    def score(home: object, task: object, archs: list[Architecture]) -> object:
        passes.append(archs)
        return original(home, task, archs)

    original = task.score
    monkeypatch.setattr("tftas_optuna.scoring.pool.score", score)
    return passes


def test_scores_are_those_of_a_scorer(
    run: Correlate, table: Path, small_space: AutoFormerSpace
) -> None:
    found = run(table, supernet_seed=4, n_seeds=2)
    scorer = Scorer(small_space, fidelity="collapsed", seed=4, n_seeds=2, device="cpu", **SIZES)
    assert list(found.values) == ["n_params", "macs", "depth", "width", "dss_collapsed"]
    expected = scorer.batch(found.architectures)
    assert found.values["dss_collapsed"] == pytest.approx(expected, rel=1e-6)
    costs = [arch.costs(**SIZES) for arch in found.architectures]
    assert found.values["n_params"] == tuple(cost.n_params for cost in costs)
    assert found.values["macs"] == tuple(cost.macs for cost in costs)
    rows = {row.metric: row for row in found.of("top1")}
    assert [row.seconds for row in rows.values()] == [None] * 4 + [0.001]
    assert rows["n_params"].tau.value > 0.5 and len(rows["n_params"].taus) == 3
    assert found.space == "small" and found.name == "trained.csv"


def test_the_second_time_nothing_is_scored(
    run: Correlate, table: Path, scored: list[list[Architecture]]
) -> None:
    first = run(table)
    n_passes = len(scored)
    assert sum(map(len, scored)) == 24
    assert run(table) == first and len(scored) == n_passes
    assert run(table, supernet_seed=1) != first and len(scored) == 2 * n_passes
    path = Path(f"{table}.scores.json")
    assert len(json.loads(path.read_text())["scores"]) == 2
    path.write_text(path.read_text()[:-30])
    assert run(table) == first and len(scored) == 3 * n_passes
    exact = run(table, fidelity="exact")
    assert exact.values["dss"] != first.values["dss_collapsed"]
    assert sum(map(len, scored)) == 4 * 24


def test_a_run_that_was_cut_off_goes_on(
    run: Correlate, table: Path, scored: list[list[Architecture]]
) -> None:
    """To the last digit: the candidates of a pass are the same."""
    whole = run(table, fidelity="exact", cache=table.with_name("whole.json"))
    passes = list(scored)

    def stop(step: str, done: int, total: int) -> None:
        if step == "scoring" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(table, fidelity="exact", callback=stop)
    kept = json.loads(Path(f"{table}.scores.json").read_text())["scores"][0]["scores"]
    assert 0 < len(kept) < 24
    scored.clear()
    assert run(table, fidelity="exact") == whole
    assert 0 < len(scored) < len(passes) and all(each in passes for each in scored)


def test_a_new_indicator_is_scored_alone(
    run: Correlate, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one of which less is better counts with the opposite sign."""
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_indicator("wide", lambda model, _: float(model.num_features))
    register_indicator("narrow", lambda model, _: model.num_features, direction="minimize")
    run(table)
    told: list[tuple[str, int, int]] = []
    found = run(table, indicators=["dss", "wide", "narrow"], callback=lambda *a: told.append(a))
    rows = {row.metric: row for row in found.rows}
    assert found.values["wide"] == found.values["narrow"] == found.values["width"]
    assert rows["wide"].tau == rows["width"].tau and rows["wide"].is_indicator
    assert rows["narrow"].tau.value == pytest.approx(-rows["wide"].tau.value)
    assert ("scoring", 24, 24) in told
    steps = list(dict.fromkeys(step for step, _, _ in told))
    assert steps == ["reading", "scoring", "times", "statistics"]


def test_an_indicator_whose_file_has_changed_is_scored_again(
    run: Correlate, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", {})
    file = tmp_path / "mine.py"
    found = []
    for sign in ("+", "-", "+"):
        file.write_text(f"def mine(model, images):\n    return {sign}model.num_features\n")
        module = types.ModuleType("mine")
        exec(compile(file.read_text(), file, "exec"), module.__dict__)
        monkeypatch.setitem(sys.modules, "mine", module)
        register_indicator("mine", module.mine, replace=True)
        found.append(run(table, indicators=["mine"]).values["mine"])
    assert found[0] == found[2] == tuple(-value for value in found[1])


@pytest.fixture
def fusion(monkeypatch: pytest.MonkeyPatch) -> str:
    """A fusion that looks at a small sample."""
    monkeypatch.setattr(registry.METRICS, "registered", {})
    monkeypatch.setattr("tftas_optuna.indicators.fusion.N_REFERENCE", 12)
    register_fusion("mine", ("naswot", "n_params"))
    return "mine"


def test_a_fusion_is_what_a_scorer_computes(
    run: Correlate, table: Path, small_space: AutoFormerSpace, fusion: str
) -> None:
    found = run(table, indicators=[fusion], supernet_seed=2, n_images=4)
    scorer = Scorer(small_space, indicator=fusion, seed=2, n_images=4, device="cpu", **SIZES)
    expected = scorer.batch(found.architectures)
    assert found.values[fusion] == pytest.approx(expected, rel=1e-6)


def test_the_sample_that_a_fusion_looks_at_is_scored_once(
    run: Correlate, table: Path, fusion: str, scored: list[list[Architecture]]
) -> None:
    whole = run(table, indicators=[fusion], cache=table.with_name("whole.json"))
    n_sample = sum(map(len, scored)) - 24

    def stop(step: str, done: int, total: int) -> None:
        if step == "reference sample" and done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(table, indicators=[fusion], callback=stop)
    scored.clear()
    assert run(table, indicators=[fusion]) == whole
    assert 24 < sum(map(len, scored)) < 24 + n_sample
    scored.clear()
    run(table, indicators=[fusion, "dss"])
    assert sum(map(len, scored)) == 24


def test_another_fusion_of_the_same_name_has_other_scores(
    run: Correlate, table: Path, fusion: str
) -> None:
    before = run(table, indicators=[fusion])
    register_fusion(fusion, ("naswot", "macs"), replace=True)
    assert run(table, indicators=[fusion]).values[fusion] != before.values[fusion]


def test_scores_of_other_images_are_others_but_for_those_that_see_none(
    run: Correlate, table: Path, scored: list[list[Architecture]]
) -> None:
    both = {"indicators": ["dss", "naswot"], "fidelity": "exact"}
    few, many = run(table, n_images=4, **both), run(table, n_images=6, **both)
    assert few.values["dss"] == many.values["dss"]
    assert few.values["naswot"] != many.values["naswot"]
    scored.clear()
    alone = run(table, indicators=["dss"], fidelity="exact")
    assert not scored and alone.values["dss"] == few.values["dss"]


@pytest.mark.usefixtures("quick_workers")
def test_workers_change_no_digit(run: Correlate, table: Path) -> None:
    one = run(table, cache=table.with_name("one.json"))
    two = run(table, cache=table.with_name("two.json"), execution=Execution("cpu", workers=2))
    assert one == two


def test_the_scores_of_a_study_are_taken_from_it(
    run: Correlate, small_space: AutoFormerSpace, scored: list[list[Architecture]]
) -> None:
    study = search(
        small_space,
        n_trials=16,
        population_size=8,
        fidelity="collapsed",
        n_exact=0,
        supernet_seed=3,
        n_seeds=2,
        execution=Execution("cpu"),
        **SIZES,
    )
    for number in range(6):
        record_accuracy(study, number, {"top1": 50.0 + number % 4})
    scored.clear()
    found = run(study, img_size=None, num_classes=None)
    assert not scored and [row.n for row in found.rows] == [6] * 5
    assert found.values["dss_collapsed"] == tuple(study.trials[n].values[0] for n in range(6))
    assert found.notes[0].startswith("bands: 1 in place of 3, as top1 is known of 6 architectures")
    other = run(study, supernet_seed=4)
    assert (
        sum(map(len, scored)) == 6
        and other.values["dss_collapsed"] != found.values["dss_collapsed"]
    )


def test_what_is_left_out_is_told(
    run: Correlate,
    table: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    table.write_text(table.read_text() + table.read_text().splitlines()[1] + "\n")
    found = run(table)
    assert found.notes == ("row 25 left out: repeated architecture (row 25: as in row 1)",)
    assert f"trained.csv: {found.notes[0]}" in caplog.messages


def test_a_metric_that_is_always_the_same_is_told(
    run: Correlate, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    archs = [arch for arch in draw(small_space, 60) if arch.depth == 3]
    found = run(write_csv(tmp_path / "t.csv", table_rows(archs)))
    assert "depth is the same for all architectures: no correlation" in found.notes
    (row,) = (row for row in found.rows if row.metric == "depth")
    assert row.tau.value is None and row.band_tau.value is None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"indicators": ["dss", "none"]}, "indicator 'none' does not exist; known"),
        ({"indicators": []}, "indicators are none"),
        ({"indicators": ["dss", "dss"]}, "indicators are dss, dss; allowed: each of .* once"),
        ({"indicators": ["n_params"]}, "indicator 'n_params' does not exist; known"),
        ({"bands": 0}, "bands is 0, allowed is 1 or more"),
        ({"n_seeds": 0}, "n_seeds is 0"),
        ({"img_size": 4}, "smaller than one patch"),
    ],
)
def test_bad_arguments(run: Correlate, table: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(TftasError, match=line):
        run(table, **options)


def test_too_few_rows(run: Correlate, small_space: AutoFormerSpace, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "t.csv", table_rows(draw(small_space, 4)))
    with pytest.raises(UnavailableError, match="t.csv: top1 is known of 4 architectures; 5"):
        run(table)


def test_rows_as_plain_data(run: Correlate, table: Path) -> None:
    rows = run(table).to_dicts()
    assert json.loads(json.dumps(rows)) == rows
    first = rows[0]
    assert first["metric"] == "n_params" and first["accuracy"] == "top1" and first["n"] == 24
    assert first["tau_low"] <= first["tau"] <= first["tau_high"]
    assert first["band_tau"] == pytest.approx(np.mean(first["taus"]))
    assert len(first["band_params"]) == len(first["taus"]) == len(first["regrets"]) == 3


def test_depth_and_width_of_stages_are_those_of_their_blocks() -> None:
    arch = get_space("pit-tiny").largest()
    assert (arch.depth, arch.widths) == ((3, 8, 6), (320, 320, 320))
    small = get_space("pit-tiny").smallest()
    mixed = type(arch)(16, (1, 4, 2), (2, 4, 8), 2.0)
    columns = shape_columns([arch, small, mixed])
    assert columns["depth"] == (17, 7, 7)
    assert columns["width"] == (320, 32, pytest.approx((32 + 4 * 64 + 2 * 128) / 7))
    assert shape_columns([object()]) == {}


def test_scores_of_the_table_stand_beside_those_that_are_computed(
    run: Correlate, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    """Under their own names; where less is better, with the opposite sign."""
    rows = table_rows(draw(small_space, 24))
    for i, row in enumerate(rows):
        row |= {"dss": -row["top1"], "ntk_cond": row["top1"], "mine": row["top1"] if i else ""}
    found = run(write_csv(tmp_path / "t.csv", rows), fidelity="exact")
    taus = {row.metric: (row.tau.value, row.n) for row in found.rows[5:]}
    assert taus == {
        "dss (table)": (-1.0, 24),
        "ntk_cond": (-1.0, 24),
        "mine": (1.0, 23),
    }
    assert found.values["dss"] != found.values["dss (table)"]
    assert found.notes == (
        "mine has no finite value in row 1: left out of what is compared with it",
    )


def test_correlations_are_told_in_a_line_and_shown_as_a_table(run: Correlate, table: Path) -> None:
    correlations = run(table, indicators="dss", accuracy="top1")
    n = len(correlations.architectures)
    assert repr(correlations) == (
        f"<Correlations of trained.csv: 5 metrics with top1 of {n} architectures in small>"
    )
    row = correlations.rows[0]
    assert repr(row).startswith(f"<Correlation of n_params with top1 of {n} architectures: tau ")
    html = correlations._repr_html_()
    assert html.count("<tr>") == 1 + len(correlations.rows)
    assert f"<td>{row.tau.value:.2f} [{row.tau.low:.2f}, {row.tau.high:.2f}]</td>" in html
