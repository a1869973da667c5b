"""Searches whose objectives and bounds are costs, a measured one among them."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from processes import grouped

from tftas_optuna import (
    Architecture,
    DSSObjective,
    Scorer,
    TftasError,
    UnavailableError,
    pareto_front,
    search,
)
from tftas_optuna.costs import device_name, latency
from tftas_optuna.metrics import Meters, Target
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.record import (
    has_settings,
    keep_meter_records,
    meter_records,
    read_settings,
    write_settings,
)

SIZES = {"img_size": 32, "num_classes": 10}
Search = Callable[..., optuna.Study]


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[Architecture]:
    """A machine whose speed is never twice the same; collects what it measured."""
    measured: list[Architecture] = []

    def measure(arch: Architecture, target: Target, *, runs: int) -> float:
        measured.append(arch)
        work = sum(arch.num_heads) + arch.embed_dim * sum(arch.mlp_ratio) / 50
        return work * target.batch_size * (1 + 0.001 * len(measured))

    monkeypatch.setattr(latency, "measure_latency", measure)
    return measured


@pytest.fixture
def run(small_space: AutoFormerSpace, tmp_path: Path) -> Search:
    def run(**changes: object) -> optuna.Study:
        arguments = dict(
            n_trials=12,
            objectives=("dss", "n_params", "latency"),
            storage=f"sqlite:///{tmp_path}/study.db",
            population_size=8,
            threads=1,
            **SIZES,
        )
        return search(small_space, **grouped({**arguments, **changes}))

    return run


def test_a_measurement_is_kept_with_the_study_and_used_again(
    run: Search, visits: list[Architecture], small_space: AutoFormerSpace
) -> None:
    study = run()
    n_measured = len(visits)
    assert n_measured and study.metric_names == ["dss_collapsed", "n_params", "latency"]
    settings = read_settings(study)
    assert settings.deployment == {
        "device": "cpu",
        "hardware": device_name("cpu"),
        "batch_size": 1,
        "threads": 1,
    }
    more = run(n_trials=8)
    meters = Meters(settings.costs, small_space, settings.target, meter_records(study))
    assert len(visits) == n_measured
    for trial in more.trials:
        arch = small_space.decode(trial.params)
        assert trial.values[2] == meters.cost("latency", arch)
    assert len(more.trials) == 20
    front = pareto_front(more)
    assert front and all(candidate.value("latency") > 0 for candidate in front)


def test_cut_off_and_continued_is_the_same_study(
    run: Search, visits: list[Architecture], tmp_path: Path
) -> None:
    """With a table that a first study brings along, two ways of running agree trial by trial."""
    first = run(n_trials=20)
    other = f"sqlite:///{tmp_path}/other.db"
    settings = read_settings(first)
    study = optuna.create_study(
        storage=other, study_name="small", directions=list(settings.directions)
    )
    write_settings(study, settings)
    keep_meter_records(study, meter_records(first))
    run(storage=other, n_trials=5)
    second = run(storage=other, n_trials=15)
    assert [t.values for t in second.trials] == [t.values for t in first.trials]
    assert [t.params for t in second.trials] == [t.params for t in first.trials]


def test_searches_that_measure_at_the_same_time_use_one_table(
    run: Search,
    visits: list[Architecture],
    small_space: AutoFormerSpace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure, others = latency.measure_latency, [lambda: run(n_trials=4)]

    def meanwhile(*args: object, **kwargs: object) -> float:
        if others:
            others.pop()()
        return measure(*args, **kwargs)

    monkeypatch.setattr(latency, "measure_latency", meanwhile)
    study = run(n_trials=8)
    settings = read_settings(study)
    meters = Meters(settings.costs, small_space, settings.target, meter_records(study))
    assert len(study.trials) == 12
    for trial in study.trials:
        assert trial.values[2] == meters.cost("latency", small_space.decode(trial.params))


def test_an_objective_takes_its_measurement_along(
    small_space: AutoFormerSpace, visits: list[Architecture]
) -> None:
    scorer = Scorer(small_space, device="cpu", **SIZES)
    objective = DSSObjective(small_space, objectives=("dss", "latency"), scorer=scorer)
    (before,) = objective.evaluate([small_space.largest()])
    n_measured = len(visits)
    (after,) = pickle.loads(pickle.dumps(objective)).evaluate([small_space.largest()])
    assert after.values == before.values and len(visits) == n_measured


def test_three_objectives_are_screened_and_bounded_like_two(
    run: Search, visits: list[Architecture], small_space: AutoFormerSpace
) -> None:
    bounds = {"n_params": (40e3, 80e3)}
    study = run(n_trials=32, bounds=bounds)
    assert study.user_attrs["sampler"] == "screened-nsgaii"
    key = "ScreenedNSGAIISampler:predicted"
    predicted = [t.system_attrs[key] for t in study.trials if key in t.system_attrs]
    # What the table of latencies tells, and what is counted, is not predicted.
    assert len(predicted) > 10
    assert all([value is None for value in row] == [False, True, True] for row in predicted)
    inside = [40e3 <= trial.values[1] <= 80e3 for trial in study.trials]
    assert sum(inside) >= 31


def test_another_deployment_does_not_continue(run: Search, visits: list[Architecture]) -> None:
    run(n_trials=2)
    with pytest.raises(TftasError, match="made with deployment: threads 1, not 2"):
        run(threads=2)
    with pytest.raises(TftasError, match="made with deployment"):
        run(batch_size=4)


def test_a_refused_bound_keeps_what_was_measured(
    run: Search, visits: list[Architecture], tmp_path: Path
) -> None:
    with pytest.raises(TftasError, match="latency of at most 0.001 excludes every architecture"):
        run(bounds={"latency": (None, 0.001)})
    n_measured = len(visits)
    (name,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/study.db")
    empty = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path}/study.db")
    assert n_measured and not empty.trials and not has_settings(empty)
    with pytest.raises(TftasError, match="latency of at least 100.00k excludes every"):
        run(bounds={"latency": (1e5, None)})
    study = run(bounds={"latency": (None, 30.0)})
    assert len(visits) == n_measured and len(study.trials) == 12


def test_what_was_measured_otherwise_is_not_used_after_a_refused_bound(
    run: Search, visits: list[Architecture]
) -> None:
    with pytest.raises(TftasError, match="excludes every architecture"):
        run(bounds={"latency": (None, 0.001)})
    n_measured = len(visits)
    study = run(batch_size=4)
    assert len(visits) > n_measured and len(study.trials) == 12


def test_a_refused_bound_keeps_what_a_study_lacks(
    run: Search, visits: list[Architecture], small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    bounds = {"latency": (None, 0.001)}
    settings = dataclasses.replace(read_settings(run(storage=None)), bounds=bounds)
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path}/study.db",
        study_name="small",
        directions=list(settings.directions),
    )
    write_settings(study, settings)
    with pytest.raises(TftasError, match="excludes every architecture"):
        run(bounds=bounds)
    assert meter_records(study)["latency"]["blocks"]


def test_other_settings_are_refused_before_anything_is_measured(
    run: Search, visits: list[Architecture]
) -> None:
    run(objectives=("n_params", "macs"))
    with pytest.raises(UnavailableError, match="'small' optimises n_params, macs, not dss"):
        run()
    assert not visits


def test_every_cost_bounds_a_search(run: Search, visits: list[Architecture]) -> None:
    study = run(
        n_trials=40,
        storage=None,
        objectives=("dss", "activations"),
        bounds={
            "latency": (None, 30.0),
            "reference_macs": (None, 2.5e6),
            "peak_memory": (1e5, 7e5),
        },
    )
    for trial in study.trials:
        attributes = trial.user_attrs
        assert trial.constraints["latency_max"] == pytest.approx(attributes["latency"] / 30 - 1)
        excess = attributes["reference_macs"] / 2.5e6 - 1
        assert trial.constraints["reference_macs_max"] == pytest.approx(excess)
        assert trial.constraints["peak_memory_min"] == pytest.approx(
            1 - attributes["peak_memory"] / 1e5
        )
    front = pareto_front(study)
    assert front and all(c.value("latency") <= 30 for c in front)
    assert all(c.value("reference_macs") <= 2.5e6 for c in front)


def test_ones_own_study_keeps_the_measurement_too(
    small_space: AutoFormerSpace, visits: list[Architecture]
) -> None:
    def objective() -> DSSObjective:
        scorer = Scorer(small_space, device="cpu", **SIZES)
        return DSSObjective(small_space, objectives=("dss", "latency"), scorer=scorer)

    first = objective()
    study = optuna.create_study(directions=first.directions)
    first.annotate(study)
    study.optimize(first, n_trials=2)
    n_measured = len(visits)
    again = objective()
    again.annotate(study)
    study.optimize(again, n_trials=2)
    assert len(visits) == n_measured and len(study.trials) == 4
