"""Accuracies of members that were trained in one supernet, beside those of their own trainings."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from random_studies import random_study

from tftas_optuna import TftasError, pareto_front
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import (
    choose_key,
    choose_trainings,
    record_accuracy,
    record_shared,
    training_sets,
)
from tftas_optuna.study.front import Candidate, get_candidate
from tftas_optuna.study.record import read_settings
from tftas_optuna.study.selection import best_first, ranked_by

HOW = {
    **{"recipe": "quick", "recipe_digest": "1f", "epochs": 20, "seed": 0, "img_size": 32},
    **{"num_classes": 10, "data": "digits", "data_digest": "2f", "n_train": 500, "n_val": 100},
    **{"out": "trained/s-shared", "supernet": "3f", "recorded": "2026-01-01T00:00:00+00:00"},
}


@pytest.fixture
def study(small_space: AutoFormerSpace) -> optuna.Study:
    return random_study(small_space, 8)


def record(study: optuna.Study, top1: dict[int, float], **how: Any) -> str:
    results = {n: {"top1": value, "top5": 99.0, "loss": 1.0} for n, value in top1.items()}
    return record_shared(study, results, {**HOW, **how})


def shared_top1(study: optuna.Study, trained: str | None = None) -> dict[int, float | None]:
    members = [get_candidate(study, n, trained=trained) for n in range(8)]
    return {c.trial: c.shared_top1 for c in members if c.shared is not None}


def test_both_kinds_stand_side_by_side(study: optuna.Study) -> None:
    shared = record(study, {1: 60.0, 2: 70.0})
    own = record_accuracy(study, 2, {"top1": 90.0, **HOW})
    assert shared_top1(study) == {1: 60.0, 2: 70.0}
    one, two = get_candidate(study, 1), get_candidate(study, 2)
    assert (one.top1, one.trained, one.shared) == (None, None, shared)
    assert (two.top1, two.trained, two.shared_top1) == (90.0, own, 70.0)
    # A key of one kind says nothing about the other.
    for key in (own, shared):
        again = get_candidate(study, 2, trained=key)
        assert (again.top1, again.shared_top1) == (90.0, 70.0)
    assert [one.key for one in training_sets(study)] == [own]


@pytest.mark.parametrize(
    "other",
    [
        {"epochs": 2},
        {"data_digest": "00ff"},
        {"recipe_digest": "00ff"},
        {"img_size": 16},
        {"space": "small"},
        {"trials": {1: 33.0}},
    ],
)
def test_shared_trainings_under_other_conditions_are_all_kept(
    study: optuna.Study, other: dict[str, Any]
) -> None:
    key = record(study, {1: 60.0, 2: 70.0, 3: 50.0})
    trials = other.get("trials", {1: 33.0, 2: 34.0, 3: 35.0})
    how = {name: value for name, value in other.items() if name != "trials"}
    tried = record(study, trials, recorded="2025-01-01T00:00:00+00:00", **how)
    assert key != tried
    assert shared_top1(study) == shared_top1(study, key) == {1: 60.0, 2: 70.0, 3: 50.0}
    assert shared_top1(study, tried)[1] == 33.0


def test_seeds_are_averaged_and_the_same_training_replaces_itself(study: optuna.Study) -> None:
    keys = {
        record(study, {1: 10.0, 2: 20.0}),
        record(study, {1: 60.0, 2: 70.0}, out="elsewhere", supernet="4f"),
        record(study, {1: 62.0, 2: 71.0}, seed=1),
    }
    assert len(keys) == 1
    assert shared_top1(study) == {1: 61.0, 2: 70.5}
    chosen = choose_trainings(study, shared=True)
    assert chosen is not None
    assert [record["out"] for record in chosen.records[1]] == ["elsewhere", "trained/s-shared"]
    assert str(chosen) == (
        "one supernet of 2 members, recipe quick (1f), 20 epochs, 32 pixels, on digits (2f),"
        " 500 + 100 images, 10 classes"
    )


def test_many_members_fit_into_an_attribute_of_mysql(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 0)
    key = record(study, {n: float(n % 100) for n in range(2000)})
    assert max(len(str(value)) for value in study.user_attrs.values()) < 65_535
    chosen = choose_trainings(study, key, shared=True)
    assert chosen is not None and chosen.top1(1999) == 99.0


def test_what_somebody_else_calls_so_is_none(study: optuna.Study) -> None:
    study.set_user_attr("shared:me", "no")
    study.set_user_attr("shared:s0000000:0", {"results": {"1": {"top1": "high"}, "x": 1}})
    study.set_user_attr("shared:s0000001:0", ["results"])
    assert training_sets(study, shared=True) == []
    assert {candidate.shared_top1 for candidate in pareto_front(study)} == {None}


def test_an_unknown_key_is_told_those_of_both_kinds(study: optuna.Study) -> None:
    shared, own = record(study, {1: 60.0}), record_accuracy(study, 2, {"top1": 90.0})
    with pytest.raises(TftasError, match=f"there are {own} .*; {shared} .1 trial: one supernet"):
        pareto_front(study, trained="x")
    assert choose_key([study], shared) == own
    assert choose_key([study], own, shared=True) == shared


def member(number: int, dss: float, **accuracies: float) -> Candidate:
    values = {"dss": dss, "n_params": 1.0, "macs": 1.0}
    return Candidate(number, None, values, **accuracies)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("front", "order", "said"),
    [
        # Nothing is trained, or one member alone: the score counts.
        ([{}, {}, {}], [2, 1, 0], "Best first, by dss_collapsed."),
        ([{"top1": 9}, {}, {}], [2, 1, 0], "Best first, by dss_collapsed."),
        # What all have: their own trainings before shared ones.
        (
            [{"top1": 9, "shared_top1": 1}, {"top1": 8, "shared_top1": 2}],
            [0, 1],
            "Best first, by top1.",
        ),
        (
            [{"top1": 90, "shared_top1": 1}, {"shared_top1": 3}, {"shared_top1": 2}],
            [1, 2, 0],
            "Best first, by shared_top1.",
        ),
        # What most have; the others follow by their score, whatever else they have.
        (
            [{"shared_top1": 4}, {"shared_top1": 3}, {"top1": 99}, {}],
            [0, 1, 3, 2],
            "Best first, by shared_top1, which 2 of 4 have; the others by dss_collapsed.",
        ),
        (
            [{"top1": 4}, {"top1": 5}, {"shared_top1": 6}, {"shared_top1": 7}],
            [1, 0, 3, 2],
            "Best first, by top1, which 2 of 4 have; the others by dss_collapsed.",
        ),
        ([{"top1": 5}], [0], "Best first, by top1."),
        ([], [], "Best first, by dss_collapsed."),
    ],
)
def test_the_best_is_chosen_by_one_kind_of_accuracy(
    study: optuna.Study, front: list[dict[str, float]], order: list[int], said: str
) -> None:
    settings = read_settings(study)
    members = [member(i, float(i), **accuracies) for i, accuracies in enumerate(front)]
    assert [one.trial for one in best_first(members, settings)] == order
    assert ranked_by(members, settings) == said
