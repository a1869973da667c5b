"""Accuracies stand beside scores, of trainings under equal conditions only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from random_studies import random_study

from tftas_optuna import TftasError, pareto_front, search
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import (
    accuracies,
    choose_trainings,
    conditions_key,
    record_accuracy,
    training_sets,
)

HOW = {"recipe": "quick", "epochs": 20, "data": "digits", "n_train": 500, "n_val": 100, "seed": 0}


@pytest.fixture
def study(small_space: AutoFormerSpace) -> optuna.Study:
    return random_study(small_space, 6)


def record(study: optuna.Study, trial: int, top1: float, **how: Any) -> str:
    return record_accuracy(study, trial, {"top1": top1, **HOW, **how})


def test_an_accuracy_stands_beside_its_score(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    search(small_space, n_trials=6, population_size=6, img_size=32, storage=url, study_name="s")
    study = optuna.load_study(study_name="s", storage=url)
    first, *others = pareto_front(study)
    assert accuracies(study) == {} and first.top1 is None
    record(study, first.trial, 81.25)
    key = record(study, first.trial, 90.0, loss=0.123456)

    again = optuna.load_study(study_name="s", storage=url)
    assert accuracies(again) == {first.trial: 90.0}
    assert [candidate.top1 for candidate in pareto_front(again)] == [90.0] + [None] * len(others)
    assert pareto_front(again)[0].trained == key


@pytest.mark.parametrize(
    "other",
    [
        {"epochs": 2},
        {"data": "letters"},
        {"data_digest": "00ff"},
        {"n_val": 50},
        {"num_classes": 9},
        {"recipe": "deit"},
        {"recipe_digest": "00ff"},
        {"img_size": 16},
        {"weights": "supernet"},
    ],
)
def test_a_training_under_other_conditions_changes_nothing(
    study: optuna.Study, other: dict[str, Any]
) -> None:
    key = record(study, 1, 98.6)
    record(study, 2, 97.0)
    tried = record(study, 1, 33.2, **other)
    assert accuracies(study) == {1: 98.6, 2: 97.0} == accuracies(study, key)
    assert accuracies(study, tried) == {1: 33.2}


def test_several_seeds_are_a_mean_and_a_standard_deviation(study: optuna.Study) -> None:
    keys = {record(study, 1, top1, seed=seed) for seed, top1 in enumerate((90.0, 92.0, 94.0))}
    assert len(keys) == 1
    record(study, 2, 80.0)
    chosen = choose_trainings(study)
    assert chosen is not None
    assert (chosen.top1(1), chosen.sd(1), chosen.top1(2), chosen.sd(2)) == (92, 2, 80, None)


def test_what_is_known_by_content_is_not_known_by_name() -> None:
    same = {"data_digest": "1", "recipe_digest": "2"}
    moved = {**HOW, **same, "data": "/elsewhere", "recipe": "mine"}
    assert conditions_key({**HOW, **same}) == conditions_key(moved)
    assert conditions_key(moved) != conditions_key({**moved, "data_digest": "3"})


def test_most_trials_come_first_then_most_epochs_then_the_newest(study: optuna.Study) -> None:
    many = [record(study, trial, 50.0, epochs=1) for trial in (1, 2)][0]
    long = record(study, 1, 50.0, epochs=30)
    older = record(study, 1, 50.0, weights="a", recorded="2026-01-01T00:00:00+00:00")
    newer = record(study, 1, 50.0, weights="b", recorded="2026-01-02T00:00:00+00:00")
    unknown = record(study, 1, 50.0, weights="c")
    keys = [one.key for one in training_sets(study)]
    assert keys == [many, long, newer, older, unknown]


def test_the_training_that_release_0_2_0_kept_is_read(study: optuna.Study) -> None:
    study.set_user_attr("retrained:3", {"top1": 75.5, **HOW})
    assert accuracies(study) == {3: 75.5}
    # What somebody else calls so is none.
    study.set_user_attr("retrained:me", "no")
    study.set_user_attr("retrained:4", {"top1": "high"})
    assert accuracies(study) == {3: 75.5}


def test_an_unknown_key_is_told_those_that_there_are(study: optuna.Study) -> None:
    with pytest.raises(
        TftasError, match="no trainings have the key 'x'; nothing of the study was"
    ):
        pareto_front(study, trained="x")
    key = record(study, 1, 98.6)
    with pytest.raises(TftasError) as error:
        pareto_front(study, trained="x")
    assert str(error.value) == (
        f"no trainings have the key 'x'; there are {key} (1 trial: recipe quick, 20 epochs, on"
        " digits, 500 + 100 images)"
    )
