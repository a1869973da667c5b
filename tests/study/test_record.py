"""What a study says of itself: written as a whole, compared before anything is added."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler
from processes import seen

from tftas_optuna import (
    ArchitectureObjective,
    DSSObjective,
    Scorer,
    TftasError,
    UnavailableError,
    search,
)
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.record import (
    check_continues,
    keep_meter_records,
    meter_records,
    read_settings,
    write_settings,
)

Search = Callable[..., optuna.Study]
COSTS = ("n_params", "macs")
SIZES = {"img_size": 32, "num_classes": 10}


@pytest.mark.parametrize("directions", [["minimize", "minimize"], ["maximize"]])
def test_an_empty_study_of_other_directions_is_refused_and_left_alone(
    run: Search, directions: list[str]
) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="small", directions=directions)
    message = f"has the directions {', '.join(directions)}, not maximize, minimize; give another"
    with pytest.raises(UnavailableError, match=message):
        run(n_trials=2, storage=storage)
    assert study.user_attrs == {} and study.metric_names is None


def test_a_record_of_other_directions_is_not_continued(small_space: AutoFormerSpace) -> None:
    settings = ArchitectureObjective(small_space, objectives=COSTS).settings
    study = optuna.create_study(study_name="other", directions=["minimize", "maximize"])
    write_settings(study, settings)
    with pytest.raises(TftasError, match="'other' has the directions minimize, maximize, not min"):
        check_continues(study, settings)


def test_a_study_of_somebody_elses_trials_is_refused_and_left_alone(run: Search) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(
        storage=storage, study_name="small", directions=["maximize", "minimize"]
    )
    study.add_trial(optuna.create_trial(values=[1.0, 2.0]))
    with pytest.raises(UnavailableError, match="holds no architectures of tftas-optuna"):
        run(n_trials=2, storage=storage)
    assert study.user_attrs == {} and len(study.trials) == 1


def test_a_search_goes_on_with_a_study_of_ones_own(
    run: Search, small_space: AutoFormerSpace
) -> None:
    storage = optuna.storages.InMemoryStorage()
    scorer = Scorer(small_space, **SIZES)
    objective = DSSObjective(small_space, scorer=scorer)
    study = optuna.create_study(
        storage=storage,
        study_name="small",
        directions=objective.directions,
        sampler=RandomSampler(seed=0),
    )
    objective.annotate(study)
    study.optimize(objective, n_trials=2)
    assert len(run(n_trials=4, storage=storage).trials) == 6
    with pytest.raises(UnavailableError, match="made with supernet seed 0, not 3"):
        run(n_trials=4, storage=storage, supernet_seed=3)


def test_cut_off_at_any_moment_of_the_record_it_starts_anew(
    run: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = seen(run(n_trials=2, objectives=COSTS))
    write = optuna.Study.set_user_attr
    n_attributes = len(run(n_trials=2, objectives=COSTS).user_attrs)
    for n_written in range(n_attributes):
        storage = optuna.storages.InMemoryStorage()
        left = [n_written]

        def cut(study: optuna.Study, key: str, value: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(study, key, value)

        with monkeypatch.context() as patch:
            patch.setattr(optuna.Study, "set_user_attr", cut)
            with pytest.raises(KeyboardInterrupt):
                run(n_trials=2, storage=storage, objectives=COSTS)
        assert seen(run(n_trials=2, storage=storage, objectives=COSTS)) == whole


def test_the_first_measurement_of_a_study_stays() -> None:
    study = optuna.create_study()
    keep_meter_records(study, {})
    assert meter_records(study) == meter_records(None) == {}
    keep_meter_records(study, {"latency": 1})
    keep_meter_records(study, {"latency": 2})
    assert meter_records(study) == {"latency": 1}


def test_what_a_scorer_computes_is_recorded(small_space: AutoFormerSpace) -> None:
    def study_of(scorer: Scorer) -> optuna.Study:
        objective = DSSObjective(small_space, scorer=scorer)
        study = optuna.create_study(study_name="s", directions=objective.directions)
        objective.annotate(study)
        assert read_settings(study) == objective.settings
        return study

    weighted = study_of(Scorer(small_space, head_weight=2.0, **SIZES))
    usual = DSSObjective(small_space, scorer=Scorer(small_space, **SIZES))
    with pytest.raises(UnavailableError, match="made with options: dss"):
        usual.annotate(weighted)
    collapsed = study_of(Scorer(small_space, fidelity="collapsed", n_seeds=2, **SIZES))
    assert collapsed.metric_names == ["dss_collapsed", "n_params"]
    assert read_settings(collapsed).approximated == ("dss",)
    with pytest.raises(UnavailableError, match="made with fidelity collapsed, not exact"):
        usual.annotate(collapsed)


def test_costs_are_those_of_the_spaces_own_images(small_space: AutoFormerSpace) -> None:
    grey = dataclasses.replace(small_space, in_chans=1)
    study = search(grey, n_trials=2, objectives=COSTS, population_size=2, **SIZES)
    for trial in study.trials:
        assert trial.values == list(grey.decode(trial.params).costs(in_chans=1, **SIZES))
    assert read_settings(study).target.in_chans == 1
