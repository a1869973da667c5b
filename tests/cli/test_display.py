"""What searches and trainings show while they run, and how results are laid out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from tftas_optuna.cli import _progress, _tables, _training
from tftas_optuna.cli._progress import ProgressDisplay, StepDisplay
from tftas_optuna.cli._training import TrainingDisplay
from tftas_optuna.retrain.run import Epoch
from tftas_optuna.retrain.training import Step
from tftas_optuna.search.progress import SearchProgress

ROW = {"epoch": 1, "train_loss": 2.0, "loss": 1.5, "top1": 12.5, "seconds": 3.0}


def progress(n_done: int, n_trials: int = 20) -> SearchProgress:
    return SearchProgress(
        n_done=n_done,
        n_trials=n_trials,
        n_study=n_done,
        generation=2,
        seconds=4.0,
        scoring_seconds=1.0,
        front_size=5,
        hypervolume=0.25,
        n_replaced=3,
        n_repeated=6,
    )


def test_a_plain_line_tells_the_pace_of_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay("small", 20, quiet=False) as display:
        display.update(progress(10))
    told = capsys.readouterr()
    assert told.out == ""
    # Ten trials in four seconds, of which one was spent on scores.
    for fact in (
        "10/20 trials",
        "trials/s 2.5",
        "scoring ms/trial 100.0",
        "other ms/trial 300.0",
        "generation 2",
        "front 5",
        "hypervolume 0.25",
        "replaced 3",
        "repeated 6",
    ):
        assert fact in told.err


def test_plain_lines_are_few_and_end_with_the_last_state(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ProgressDisplay("small", 20, quiet=False) as display:
        for n_done in range(0, 20):
            display.update(progress(n_done))
    first, last = capsys.readouterr().err.splitlines()
    assert first == "small: 0/20 trials" and last.startswith("19/20 trials, ")


def test_plain_lines_of_a_slow_step_end_with_the_last(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    with StepDisplay("report", "sections") as display:
        for done in range(1, 8):
            display(done, 7)
    assert capsys.readouterr().err.splitlines() == [
        "report: 1/7 sections",
        "report: 7/7 sections",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_shown_when_quiet(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def console(**how: Any) -> Console:
        return Console(force_terminal=terminal, color_system=None, **how)

    for module in (_progress, _training):
        monkeypatch.setattr(module, "Console", console)
    with ProgressDisplay("small", 20, quiet=True) as display:
        display.update(progress(10))
    with TrainingDisplay("small", 4, quiet=True) as training:
        training.update(Epoch(ROW, 4))
    assert capsys.readouterr() == ("", "")


def test_steps_are_parts_of_an_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def console(**how: Any) -> Console:
        return Console(force_terminal=True, color_system=None, width=150, **how)

    monkeypatch.setattr(_training, "Console", console)
    for step, whole in ((4, "0/4"), (9, "1/4")):
        with TrainingDisplay("small", 4, quiet=False) as display:
            display.update(Step(epoch=0, step=step, steps=10, loss=2.0, lr=0.1))
        told = capsys.readouterr().err
        assert f"{whole} epochs  loss 2.000" in told


def test_a_plain_line_for_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingDisplay("small", 4, quiet=False) as display:
        display.update(Epoch(ROW, 4))
    told = capsys.readouterr()
    assert told.err == ("small: epoch 2/4, train loss 2.0000, loss 1.5000, top-1 12.50 %, 3.0 s\n")


def test_csv_writes_lists_and_nested_values_flat(capsys: pytest.CaptureFixture[str]) -> None:
    _tables.print_rows([{"a": 1, "b": {"c": [2, 3], "d": None}}], "csv")
    assert capsys.readouterr().out == "a,c,d\n1,2 3,\n"
    _tables.print_rows([], "csv")
    assert capsys.readouterr().out.strip() == ""


def test_what_is_not_finite_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    _tables.print_rows([{"dss": float("inf"), "loss": float("nan"), "trial": 3}], "json")
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told == [{"dss": None, "loss": None, "trial": 3}]
