"""What a score depends on, as one value: written, read back, compared."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import pytest

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators import FusionIndicator
from tftas_optuna.metrics import get_indicator
from tftas_optuna.scoring.conditions import (
    Conditions,
    EvaluationSource,
    ImageSource,
    SupernetSource,
    batches_seen,
    difference,
)
from tftas_optuna.spaces import AutoFormerSpace


@pytest.fixture
def conditions(small_space: AutoFormerSpace) -> Conditions:
    return Conditions.of(
        small_space,
        img_size=32,
        supernet=SupernetSource(3),
        n_seeds=2,
        images=ImageSource(4, "somewhere", "abc"),
        dtype="float64",
        evaluation=EvaluationSource("somewhere", 30, "def", "30 images of val"),
    )


def other_values(conditions: Conditions) -> dict[str, Any]:
    """Return another value of every field, so that no field can be forgotten."""
    space = dataclasses.replace(conditions.space, num_classes=7)
    others = {
        "space": space,
        "img_size": 64,
        "num_classes": 7,
        "supernet": SupernetSource(4),
        "n_seeds": 1,
        "images": ImageSource(5, "somewhere", "abc"),
        "dtype": "float32",
        "evaluation": EvaluationSource("somewhere", 30, "ghi", "30 images of val"),
    }
    assert others.keys() == {field.name for field in dataclasses.fields(Conditions)}
    return others


def test_they_come_back_from_plain_data_and_from_other_processes(conditions: Conditions) -> None:
    unseen = dataclasses.replace(conditions, images=None, evaluation=None)
    for one in (conditions, unseen):
        assert Conditions.from_dict(json.loads(json.dumps(one.to_dict()))) == one
        again = pickle.loads(pickle.dumps(one))
        assert again == one and hash(again) == hash(one)


def test_every_field_tells_two_apart(conditions: Conditions) -> None:
    for name, value in other_values(conditions).items():
        other = dataclasses.replace(conditions, **{name: value})
        assert other != conditions, name
        assert conditions.differs_from(other) is not None, name
    assert conditions.differs_from(conditions) is None


def test_a_difference_is_one_line_with_both_values(conditions: Conditions) -> None:
    other = dataclasses.replace(conditions, supernet=SupernetSource(9))
    assert conditions.differs_from(other) == "supernet seed 3, not 9"
    narrow = difference({"a": {"b_c": [1, 2]}}, {"a": {"b_c": [1, 3]}})
    assert narrow == "a: b c 1, 2, not 1, 3"
    assert difference({"a": None}, {"a": "x" * 100}) == f"a none, not {'x' * 77}..."


def test_what_is_not_known_differs_from_nothing(conditions: Conditions) -> None:
    unread = dataclasses.replace(conditions, images=ImageSource.of(4, "elsewhere"))
    assert conditions.differs_from(unread) is None
    blind = dataclasses.replace(conditions, images=None)
    assert conditions.differs_from(blind) is None


def test_the_key_is_what_matters_to_an_indicator(conditions: Conditions) -> None:
    fewer = dataclasses.replace(conditions, images=ImageSource(5, None))
    sees, blind = get_indicator("naswot"), get_indicator("dss")
    assert conditions.key(sees) != fewer.key(sees)
    assert conditions.key(blind) == fewer.key(blind)
    assert conditions.key(sees).keys() - conditions.key(blind).keys() == {"n_images", "pictures"}
    # Scores that release 0.2.0 kept name no type.
    usual = dataclasses.replace(conditions, dtype="float32")
    assert conditions.key(blind).keys() - usual.key(blind).keys() == {"dtype"}
    # A fusion draws its reference sample with the seed, whatever it is made of.
    of_costs = FusionIndicator("sizes", parts=("n_params",))
    assert conditions.key(of_costs) == conditions.key(blind)


def test_batches_are_those_of_the_one_that_sees_most() -> None:
    assert batches_seen(["dss"]) == batches_seen([]) == batches_seen(["ffn_capacity"]) == 0
    assert batches_seen(["dss", "tftas"]) == 1
    assert batches_seen(["naswot", "zico"]) == 2


def test_numbers_out_of_range_are_refused(small_space: AutoFormerSpace) -> None:
    with pytest.raises(TftasError, match="n_seeds is 0, allowed is 1 or more"):
        Conditions.of(small_space, n_seeds=0)
    with pytest.raises(TftasError, match="n_images is 1, allowed is 2 or more"):
        ImageSource.of(1)


def test_a_trained_supernet_is_its_tensors_wherever_they_lie(conditions: Conditions) -> None:
    one = dataclasses.replace(conditions, n_seeds=1)
    here = dataclasses.replace(one, supernet=SupernetSource(3, "here", "0123"))
    there = dataclasses.replace(one, supernet=SupernetSource(3, "there", "0123"))
    other = dataclasses.replace(one, supernet=SupernetSource(3, "here", "4567"))
    dss = get_indicator("dss")
    assert here.differs_from(there) is None and here.key(dss) == there.key(dss)
    assert here.differs_from(other) == "supernet 0123, not 4567"
    assert one.differs_from(here) == "supernet drawn, not 0123"
    assert "supernet" not in one.key(dss), "scores of release 0.2.0 stay valid"
    assert Conditions.from_dict(json.loads(json.dumps(here.to_dict()))) == here
    with pytest.raises(TftasError, match="n_seeds is 2, but here is one supernet"):
        dataclasses.replace(here, n_seeds=2)
