"""An indicator that is calibrated on trained networks: what it learns, keeps and refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from images import draw_images
from tables import SIZES, draw, table_rows, write_csv

from tftas_optuna import (
    Architecture,
    AutoFormerSpace,
    Execution,
    Scorer,
    TftasError,
    UnavailableError,
    correlate,
    pareto_front,
    search,
)
from tftas_optuna.correlate.calibration import (
    PENALTIES,
    Advice,
    Calibration,
    Inputs,
    advise,
    calibrate,
    fit,
)
from tftas_optuna.correlate.result import Correlation, Estimate
from tftas_optuna.metrics import indicator_names, registry
from tftas_optuna.metrics.units import short
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.ridge import Ridge
from tftas_optuna.scoring.calibrated import (
    CalibratedIndicator,
    find_calibrations,
    load_calibration,
    register_calibration,
)
from tftas_optuna.scoring.conditions import Conditions, ImageSource
from tftas_optuna.search.planning import make_settings


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry.METRICS, "registered", dict(registry.METRICS.registered))
    yield


def settings_of(space: AutoFormerSpace, *indicators: str) -> Any:
    conditions = Conditions.of(space, images=ImageSource(4), **SIZES)
    return make_settings(conditions, objectives=(*indicators, "n_params"), fidelity="exact")


def scores_of(space: AutoFormerSpace, archs: list[Architecture]) -> dict[str, list[float]]:
    costs = [arch.costs(**SIZES, in_chans=3) for arch in archs]
    naswot = Scorer(space, indicator="naswot", device="cpu", n_images=4, **SIZES)
    return {
        "n_params": [float(cost.n_params) for cost in costs],
        "macs": [float(cost.macs) for cost in costs],
        "naswot": naswot.batch(archs),
    }


@pytest.fixture
def made(small_space: AutoFormerSpace) -> CalibratedIndicator:
    archs = draw(small_space, 24)
    accuracies = [70 + sum(arch.num_heads) - 0.1 * arch.depth for arch in archs]
    settings = settings_of(small_space, "naswot")
    return calibrate("mine", archs, accuracies, scores_of(small_space, archs), settings).indicator


def test_it_learns_what_no_column_tells(small_space: AutoFormerSpace) -> None:
    archs = draw(small_space, 60)
    truth = [3 * arch.num_heads[0] + arch.mlp_ratio[1] for arch in archs]
    scores = scores_of(small_space, archs)
    found = calibrate("mine", archs, truth, scores, settings_of(small_space, "naswot"))
    assert found.share == 1.0
    left_out = kendall_tau(found.left_out, truth)
    assert left_out > 0.75 and left_out > kendall_tau(found.column_left_out, truth) + 0.2
    # What was left out was really left out: of accuracies without any sense nothing is known.
    noise = np.random.default_rng(0).permutation(truth)
    nothing = calibrate("mine", archs, noise, scores, settings_of(small_space, "naswot"))
    assert abs(kendall_tau(nothing.left_out, noise)) < 0.3


def test_a_column_that_tells_all_stays_alone_and_outliers_do_not_count() -> None:
    rng = np.random.default_rng(0)
    features, columns = rng.normal(size=(30, 20)), rng.normal(size=(30, 3))
    accuracies = -columns[:, 1].copy()
    accuracies[4] -= 1000.0 * (accuracies[4] == accuracies.min())
    found = fit(Inputs(features, columns, ("a", "b", "c")), accuracies)
    assert (found.column, found.share) == ("b", 0.0)
    assert found.weights[21] < 0 and not np.delete(found.weights, 21).any()
    others = Inputs(rng.normal(size=(50, 20)), rng.normal(size=(50, 3)), ("a", "b", "c"))
    assert kendall_tau(found.predict(others), -others.columns[:, 1]) == 1.0


def test_a_column_that_did_not_vary_predicts_nothing_where_it_does() -> None:
    rng = np.random.default_rng(0)
    found = fit(Inputs(np.ones((12, 4)), np.ones((12, 2)), ("a", "b")), rng.normal(size=12))
    elsewhere = Inputs(2 * np.ones((3, 4)), rng.normal(size=(3, 2)), ("a", "b"))
    assert found.predict(elsewhere) == pytest.approx([found.constant] * 3)


def test_predictions_are_in_the_unit_of_the_accuracies(made: CalibratedIndicator) -> None:
    # Heads and depth make 71 to 82; with the means of its inputs it predicts about their middle.
    assert 71 < made.constant < 82


def test_the_ridge_takes_the_penalty_of_the_least_leave_one_out_error() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(15, 4))
    rows -= rows.mean(axis=0)
    targets = rows @ [1.0, 0.0, -2.0, 0.5] + rng.normal(size=15)

    def solved(rows: Any, targets: Any, penalty: float) -> Any:
        gram = rows.T @ rows + penalty * np.eye(4)
        return np.linalg.solve(gram, rows.T @ (targets - targets.mean()))

    def error(penalty: float) -> float:
        total = 0.0
        for i in range(15):
            # One constant and one set of weights, fitted without the row.
            kept = np.delete(np.arange(15), i)
            with_one = np.hstack((rows[kept], np.ones((14, 1))))
            penalties = np.diag([penalty] * 4 + [0.0])
            solution = np.linalg.solve(
                with_one.T @ with_one + penalties, with_one.T @ targets[kept]
            )
            total += (targets[i] - rows[i] @ solution[:4] - solution[4]) ** 2
        return total

    best = min(PENALTIES, key=error)
    assert Ridge(rows, targets, PENALTIES).weights == pytest.approx(solved(rows, targets, best))


@pytest.mark.usefixtures("quick_workers")
def test_it_means_the_same_in_a_file_in_a_scorer_and_in_workers(
    small_space: AutoFormerSpace, made: CalibratedIndicator, tmp_path: Path
) -> None:
    made.save(tmp_path / "mine.calibration.yaml", {"networks": 24})
    find_calibrations(["mine", "../mine", "dss"], tmp_path)
    assert "mine" in indicator_names()
    again = load_calibration(tmp_path / "mine.calibration.yaml")
    assert dataclasses.asdict(again) == dataclasses.asdict(made)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.calibration.yaml"]
    arguments: dict[str, Any] = dict(objectives=("mine", "n_params"), n_trials=6, n_images=4)
    found = [
        search(small_space, execution=Execution("cpu", workers), **arguments, **SIZES)
        for workers in (1, 2)
    ]
    values = [[trial.values for trial in study.trials] for study in found]
    assert values[0] == values[1]
    arch = small_space.decode(found[0].trials[0].params)
    scorer = Scorer(small_space, indicator="mine", device="cpu", n_images=4, **SIZES)
    assert scorer(arch) == pytest.approx(values[0][0][0])
    parts = {name: column[0] for name, column in scores_of(small_space, [arch]).items()}
    assert made.combine(arch, parts, {}) == pytest.approx(values[0][0][0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supernet_seed": 1}, "was calibrated with supernet seed 0, not 1; use the same"),
        ({"n_images": 5}, "was calibrated with n images 4, not 5"),
        ({"img_size": 64}, "was calibrated with img size 32, not 64"),
    ],
)
def test_a_search_under_other_conditions_is_refused(
    small_space: AutoFormerSpace, made: CalibratedIndicator, changes: Any, message: str
) -> None:
    register_calibration(made)
    arguments: dict[str, Any] = dict(objectives=("mine", "n_params"), n_trials=2, n_images=4)
    with pytest.raises(TftasError, match=message):
        search(small_space, **{**arguments, **SIZES, **changes})
    sizes: dict[str, Any] = {"n_images": 4, "seed": changes.get("supernet_seed", 0), **SIZES}
    there = {**sizes, **{name: changes[name] for name in changes if name in sizes}}
    with pytest.raises(TftasError, match=message):
        Scorer(small_space, indicator="mine", device="cpu", **there)
    other = dataclasses.replace(small_space, name="another")
    with pytest.raises(TftasError, match="was calibrated in space 'small', not 'another'"):
        search(other, **arguments, **SIZES)


def test_a_calibration_on_noise_does_not_score_on_pictures(
    small_space: AutoFormerSpace, made: CalibratedIndicator, tmp_path: Path
) -> None:
    register_calibration(made)
    data = draw_images(tmp_path / "data", train=4, val=0, side=32)
    with pytest.raises(TftasError, match="was calibrated with pictures noise, not [0-9a-f]{64};"):
        Scorer(small_space, indicator="mine", n_images=4, data_dir=str(data), **SIZES)


def test_what_it_was_calibrated_on_is_kept(
    small_space: AutoFormerSpace, made: CalibratedIndicator, tmp_path: Path
) -> None:
    archs = draw(small_space, 24)
    params = [arch.costs(**SIZES).n_params for arch in archs]
    path = tmp_path / "mine.calibration.yaml"
    made.save(path, {})
    assert load_calibration(path).calibrated_on == made.calibrated_on
    assert made.calibrated_on["n_params"] == (min(params), max(params))
    assert made.calibrated_on["depth"] == (2, 4)
    assert list(made.calibrated_on) == ["n_params", "macs", "depth", "width"]
    # Release 0.2 kept no ranges.
    data = yaml.safe_load(path.read_text())
    del data["ranges"]
    path.write_text(yaml.safe_dump(data))
    old = load_calibration(path)
    assert old.calibrated_on == {}
    # Studies compare recipes, and those of the earlier release go on.
    assert old.recipe == made.recipe


def test_a_search_says_where_it_leaves_what_was_calibrated(
    small_space: AutoFormerSpace, made: CalibratedIndicator, caplog: pytest.LogCaptureFixture
) -> None:
    least, most = 60_000.0, 90_000.0
    ranges = ((2.0, 3.0), (32.0, 64.0), (least, most), (0.0, 1e12), (0.0, 1e9))
    register_calibration(dataclasses.replace(made, ranges=ranges))
    arguments: dict[str, Any] = dict(n_images=4, n_trials=8, **SIZES)
    study = search(small_space, objectives=("mine", "n_params"), **arguments)
    begin, end = (record.getMessage() for record in caplog.records)
    corners = (small_space.smallest(), small_space.largest())
    low, high = (short(arch.costs(**SIZES).n_params) for arch in corners)
    assert begin == (
        "mine was calibrated on n_params 60.00k - 90.00k, depth 2 - 3; this search reaches"
        f" n_params {low} - {high}, depth 2 - 4: outside of that its values are extrapolated"
    )
    front = pareto_front(study)
    outside = [c for c in front if not least <= c.n_params <= most or c.architecture.depth > 3]
    assert 0 < len(outside)
    assert end.startswith(f"{len(outside)} of {len(front)} on the front lie outside of what mine")
    # What the bounds exclude is not searched, and a calibration without ranges says nothing.
    caplog.clear()
    bounds = {"n_params": (least, most), "mine": (0.0, None)}
    search(small_space, objectives=("n_params", "macs"), bounds=bounds, **arguments)
    assert "calibrated on depth 2 - 3; this search reaches depth 2 - 4" in caplog.text
    caplog.clear()
    register_calibration(dataclasses.replace(made, ranges=()))
    search(small_space, objectives=("mine", "n_params"), **arguments)
    assert not caplog.records


def test_what_ranks_better_alone_is_recommended(made: CalibratedIndicator) -> None:
    def row(metric: str, tau: float, in_bands: float | None = None) -> Correlation:
        nothing = Estimate(None)
        taus = Estimate(tau), nothing, Estimate(tau if in_bands is None else in_bands), nothing
        return Correlation("top1", metric, True, 24, *taus, None, (), (), ())

    def advised(column: str, ours: Any, best: Any, **others: float) -> Advice:
        indicator = dataclasses.replace(made, parts=("n_params", "macs", "naswot", "snip"))
        calibration = Calibration(indicator, (), column, (), 1.0, 24)
        rows = [row(name, tau) for name, tau in others.items()]
        rows += [row("mine (left out)", *ours), row("best column (left out)", *best)]
        return advise(calibration, rows)

    both = {"naswot": 0.6, "snip": 0.3}
    assert advised("naswot", (0.5,), (0.4,), **both) == ("mine", "naswot", False, False)
    assert advised("naswot", (0.5,), (0.6,), **both) == ("naswot", "naswot", True, True)
    # Inside bands of one size counts: there the calibration does better, or not.
    assert advised("naswot", (0.5, 0.3), (0.6, 0.2), **both) == ("mine", "naswot", True, False)
    assert advised("naswot", (0.5, 0.2), (0.4, 0.3), **both) == ("naswot", "naswot", False, True)
    # Nobody can search for depth, nor for little of an indicator.
    width = advised("width", (0.5,), (0.6,), width=0.7, naswot=0.2, snip=0.55)
    assert width == ("snip", "width", True, True)
    less = advised("naswot", (0.5,), (0.6,), naswot=-0.7, snip=0.4)
    assert less == ("mine", "less naswot", True, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranges": {"depth": [2, 4]}}, "is no calibration, or damaged"),
        ({"calibration": 2}, "was made by a later release"),
        ({"means": [1.0]}, "is no calibration, or damaged: expected"),
        ({"constant": float("nan")}, "damaged: a number is not finite"),
        ({"parts": [{"name": "nonsense", "log": True}]}, "damaged: 'nonsense'"),
        ({"weights": None}, "is no calibration, or damaged"),
        ({"conditions": {}}, "damaged: its conditions do not tell"),
        ({"space": {}}, "is no calibration, or damaged|expected"),
    ],
)
def test_damaged_files_are_told_in_one_line(
    made: CalibratedIndicator, tmp_path: Path, change: Any, message: str
) -> None:
    path = tmp_path / "mine.calibration.yaml"
    made.save(path, {})
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises((TftasError, UnavailableError), match=message) as caught:
        load_calibration(path)
    assert "\n" not in str(caught.value)


def test_only_a_calibration_is_replaced(made: CalibratedIndicator, tmp_path: Path) -> None:
    path = tmp_path / "mine.calibration.yaml"
    for _ in range(2):
        made.save(path, {})
    path.write_text("calibration: of somebody's camera\n")
    with pytest.raises(UnavailableError, match=r"mine.calibration.yaml is in the way"):
        made.save(path, {})
    assert path.read_text() == "calibration: of somebody's camera\n"


def test_what_cannot_be_calibrated_is_refused(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    rows = table_rows(draw(small_space, 12))
    write_csv(tmp_path / "t.csv", [{**row, "b_acc": 90 - row["top1"]} for row in rows])
    write_csv(tmp_path / "few.csv", rows[:9])
    arguments: dict[str, Any] = dict(indicators=["naswot"], n_images=2, **SIZES)

    def call(table: str, name: str, **more: Any) -> Any:
        return correlate(tmp_path / table, small_space, calibrate=name, **{**arguments, **more})

    with pytest.raises(TftasError, match="calibrated on one accuracy, the table has top1, b_acc"):
        call("t.csv", "mine")
    with pytest.raises(TftasError, match="metric 'dss' exists already; give another name"):
        call("t.csv", "dss", accuracy=["top1"])
    with pytest.raises(TftasError, match="cannot be made of 'az_nas', which is itself made of"):
        call("t.csv", "mine", accuracy=["top1"], indicators=["az_nas"])
    with pytest.raises(UnavailableError, match="on 9 networks, needed are 10 or more"):
        call("few.csv", "mine")
    found = call("t.csv", "mine", accuracy=["top1"])
    assert found.calibration.n == 12
    assert [row.metric for row in found.rows][-2:] == [
        "mine (left out)", "best column (left out)",
    ]  # fmt: skip
