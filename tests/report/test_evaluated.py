"""A report shows what was evaluated, as long as the networks are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from random_studies import random_study

from tftas_optuna.report.contents import Section, contents
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import record_accuracy
from tftas_optuna.study.evaluated import read_evaluations, write_evaluation

ROW = {"split": "test", "n_images": 10, "top1": 70.0}
MATRIX = {"class_names": ["<b>a", "b", "c"], "confusion": [[3, 1, 0], [2, 4, 0], [0, 0, 0]]}


@pytest.fixture
def trained(small_space: AutoFormerSpace, tmp_path: Path) -> optuna.Study:
    """A study whose trials 1 and 2 were trained, to directories of these names."""
    study = random_study(small_space, 12)
    for trial in (1, 2):
        (tmp_path / str(trial)).mkdir()
        facts = {"epochs": 1, "data": "d", "recipe": "r", "recipe_digest": "x"}
        record: dict[str, Any] = {"top1": 50.0 + trial, "seed": 0, **facts}
        record |= {"out": str(tmp_path / str(trial)), "model_digest": f"digest {trial}"}
        record_accuracy(study, trial, record)
    return study


def evaluated(study: optuna.Study) -> Section | None:
    return next((s for s in contents(study).sections if s.title == "Evaluated"), None)


def test_the_best_is_drawn_and_all_are_listed(trained: optuna.Study, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "1", "test", {**ROW, **MATRIX}, model_digest="digest 1")
    better = {**ROW, **MATRIX, "top1": 80.0, "split": "my images"}
    path = write_evaluation(tmp_path / "2", "my images", better, model_digest="digest 2")
    assert path == tmp_path / "2" / "evaluation-my-images.json"
    section = evaluated(trained)
    assert section is not None and section.table is not None
    assert section.table.rows == [["1", "10", "70.00", "test"], ["2", "10", "80.00", "my images"]]
    ((name, figure),) = section.figures
    assert name == "Trial 2 on my images"
    (heatmap,) = figure["data"]
    # The first class is on top, and c has no images.
    assert heatmap["z"] == [[33.333, 66.667, 0.0], [75.0, 25.0, 0.0]]
    assert figure["layout"]["xaxis"]["ticktext"] == ["&lt;b&gt;a", "b", "c"]
    assert figure["layout"]["yaxis"]["ticktext"] == ["b", "&lt;b&gt;a"]


def test_many_classes_are_listed_and_not_drawn(trained: optuna.Study, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "1", "test", ROW, model_digest="digest 1")
    section = evaluated(trained)
    assert section is not None and section.table is not None
    assert not section.figures and section.missing and len(section.table.rows) == 1


def test_what_is_not_of_these_networks_or_damaged_is_left_out(
    trained: optuna.Study, tmp_path: Path
) -> None:
    assert evaluated(trained) is None
    path = write_evaluation(tmp_path / "1", "test", {**ROW, **MATRIX}, model_digest="other")
    assert evaluated(trained) is None
    whole = {**ROW, **MATRIX, "model_digest": "digest 1"}
    path.write_text(json.dumps(whole))
    assert len(read_evaluations(trained)) == 1
    for text in (
        "no JSON",
        "[" * 100_000,
        "[]",
        json.dumps({**whole, "top1": None}),
        json.dumps({**whole, "confusion": [[1, 2]]}),
        json.dumps({**whole, "class_names": None}),
        json.dumps({**whole, "confusion": 3}),
    ):
        path.write_text(text)
        assert read_evaluations(trained) == []
