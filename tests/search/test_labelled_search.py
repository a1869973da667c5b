"""Searches on the accuracy of slices of a trained supernet."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from labelled import draw_folder, keep, three_classes
from menu_cases import SPACES, candidates

from tftas_optuna import (
    ArchitectureObjective,
    Execution,
    Scorer,
    TftasError,
    UnavailableError,
    pareto_front,
    search,
)
from tftas_optuna.export import export_front
from tftas_optuna.indicators import labelled
from tftas_optuna.indicators.measures.accuracy import METRIC
from tftas_optuna.metrics import get_indicator
from tftas_optuna.report.contents import contents
from tftas_optuna.scoring.panel import Panel
from tftas_optuna.study.held_out import read_held_out

SPACE = three_classes(SPACES["relative"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keep(SPACE, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def usual(folder: Path, shared: Path) -> dict[str, Any]:
    return {
        "objectives": ("accuracy", "n_params"),
        "supernet": shared,
        "data_dir": str(folder),
        "n_trials": 10,
        "population_size": 5,
        "execution": Execution("cpu"),
    }


def values(study: optuna.Study) -> list[Any]:
    return [(trial.params, trial.values) for trial in study.trials]


def test_values_are_those_of_a_scorer_and_the_front_has_others(
    usual: dict[str, Any], folder: Path, shared: Path
) -> None:
    study = search(SPACE, **usual)
    scorer = Scorer(
        SPACE, indicator="accuracy", supernet=shared, data_dir=str(folder), device="cpu"
    )
    held_out = Scorer(scorer.basis, indicator=dataclasses.replace(METRIC, held_out=True))
    front = pareto_front(study)
    for candidate in front:
        assert candidate.values["accuracy"] == scorer(candidate.architecture)
        assert candidate.held_out == held_out(candidate.architecture)
        assert candidate.named_values()["accuracy_held_out"] == candidate.held_out
    assert any(candidate.held_out != candidate.values["accuracy"] for candidate in front)
    assert study.user_attrs["labelled_seen"] == "12 images of val"
    assert read_held_out(study).seen == "9 others"


def test_n_exact_limits_what_is_evaluated_on_images_held_out(usual: dict[str, Any]) -> None:
    study = search(SPACE, **usual, n_exact=1)
    front = pareto_front(study)
    assert len(front) > 1 == sum(candidate.held_out is not None for candidate in front)


def test_workers_give_the_same(usual: dict[str, Any], quick_workers: None) -> None:
    alone = search(SPACE, **usual)
    several = search(SPACE, **{**usual, "execution": Execution("cpu", workers=2)})
    assert values(several) == values(alone)
    assert read_held_out(several) == read_held_out(alone)


def test_a_search_in_parts_is_the_same_search(usual: dict[str, Any], tmp_path: Path) -> None:
    whole = search(SPACE, **usual)
    for n_trials in (4, 6):
        parts = search(
            SPACE, **{**usual, "n_trials": n_trials}, storage=f"sqlite:///{tmp_path}/s.db"
        )
    assert values(parts) == values(whole)
    held_out = read_held_out(parts).values
    assert held_out.items() >= read_held_out(whole).values.items()


def test_a_study_goes_on_with_the_same_images_only(
    usual: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    usual |= {"storage": f"sqlite:///{tmp_path}/s.db", "n_trials": 2}
    search(SPACE, **usual)
    moved = shutil.copytree(folder, tmp_path / "moved")
    search(SPACE, **{**usual, "data_dir": str(moved)})
    next((moved / "val" / "red").iterdir()).unlink()
    for other in ({"data_dir": str(moved)}, {"n_images": 6}):
        with pytest.raises(UnavailableError, match="was made with labelled images") as error:
            search(SPACE, **{**usual, **other})
        assert "\n" not in str(error.value)


def test_what_is_wrong_with_images_held_out_is_said_first(
    usual: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    shutil.copytree(copied / "val" / "red", copied / "test" / "red")
    with pytest.raises(TftasError, match="'blue' is a class of the supernet, but no"):
        search(SPACE, **{**usual, "data_dir": str(copied)}, storage=f"sqlite:///{tmp_path}/s.db")
    assert not (tmp_path / "s.db").exists()


def test_a_bound_on_accuracy(usual: dict[str, Any]) -> None:
    usual |= {"objectives": ("dss", "n_params"), "bounds": {"accuracy": (30.0, None)}}
    study = search(SPACE, **usual)
    front = pareto_front(study)
    assert front and all(candidate.values["accuracy"] >= 30 for candidate in front)
    assert all(candidate.held_out is not None for candidate in front)


def test_a_drawn_supernet_has_no_accuracy_unless_asked_for(usual: dict[str, Any]) -> None:
    with pytest.raises(TftasError, match="on a drawn supernet"):
        search(SPACE, **{**usual, "supernet": None})
    with pytest.raises(TftasError, match="needs labelled images"):
        search(SPACE, **{**usual, "data_dir": None})
    with pytest.raises(TftasError, match="data_dir does not apply"):
        search(SPACE, **{**usual, "objectives": ("dss", "n_params")})
    study = search(SPACE, **{**usual, "supernet": "drawn", "n_trials": 2})
    assert study.user_attrs["supernet"] == "drawn"


def test_an_objective_of_optuna(folder: Path, shared: Path) -> None:
    scorer = Scorer(
        SPACE, indicator="accuracy", supernet=shared, data_dir=str(folder), device="cpu"
    )
    objective = ArchitectureObjective(SPACE, scorer=scorer)
    study = optuna.create_study(directions=objective.directions)
    objective.annotate(study)
    study.enqueue_trial(SPACE.encode(SPACE.largest()))
    study.optimize(objective, n_trials=1)
    assert study.trials[0].values[0] == scorer(SPACE.largest())
    assert study.user_attrs["labelled_images"] == scorer.basis.labelled().digest
    with pytest.raises(TftasError, match="on a drawn supernet"):
        ArchitectureObjective(SPACE, objectives=("accuracy", "n_params"))


def test_files_have_both_accuracies(usual: dict[str, Any], tmp_path: Path) -> None:
    study = search(SPACE, **usual)
    first = export_front(study, tmp_path / "front")[0].read_text()
    assert "accuracy_held_out: " in first and "labelled_seen: 12 images of val" in first
    assert usual["data_dir"] not in first


def test_a_report_says_which_images_are_which(usual: dict[str, Any]) -> None:
    report = contents(search(SPACE, **usual))
    assert report.facts["labelled images"] == "12 images of val; held out: 9 others"
    (front, *_) = report.sections
    assert front.more is not None and "accuracy_held_out" in front.more.head


def test_both_are_computed_in_the_same_passes(
    folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    forward = labelled.functional_call

    def counted(*args: Any) -> Any:
        passes.append(1)
        return forward(*args)

    monkeypatch.setattr(labelled, "functional_call", counted)
    scorer = Scorer(
        SPACE, indicator="accuracy", supernet=shared, data_dir=str(folder), device="cpu"
    )
    both = [(get_indicator(name), "exact") for name in ("accuracy", "cross_entropy")]
    archs = candidates(SPACE, 3)
    Panel(scorer.basis, both).by_seed(archs)
    assert len(passes) == 3
