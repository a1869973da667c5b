"""``tftas-optuna correlate`` as a user calls it."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import optuna
import pytest
from conftest_cli import SMALL, Run
from programs import Begin
from tables import draw, table_rows, write_csv

from tftas_optuna import AutoFormerSpace
from tftas_optuna.cli.correlate import _milliseconds, _with_interval
from tftas_optuna.correlate import Estimate
from tftas_optuna.study.accuracy import record_accuracy

SCORE = ("--indicators", "dss", "--device", "cpu")


@pytest.fixture
def place(folder: Path, small_space: AutoFormerSpace) -> Path:
    """A directory with a table of thirty architectures and two accuracies."""
    rows = table_rows(draw(small_space, 30))
    write_csv(folder / "t.csv", [{**row, "b_acc": 90 - row["top1"]} for row in rows])
    return folder


def test_a_table_for_each_accuracy(tftas: Run, place: Path) -> None:
    done = tftas(place, "correlate", "t.csv", *SMALL, *SCORE)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("b_acc of 30 architectures")
    assert "top1 of 30 architectures" in first
    for text in (first, second):
        for word in ("metric", "Kendall tau", "Spearman", "tau in bands", "regret", "ms"):
            assert word in text
        lines = [line for line in text.splitlines() if "│" in line]
        names = [line.split("│")[1].strip() for line in lines]
        assert names == ["n_params", "macs", "depth", "width", "dss_collapsed"]
        assert "5 bands of parameters:" in text and "A random pick is" in text
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert (place / "t.csv.scores.json").is_file()


def test_a_fusion_that_is_made_is_compared(tftas: Run, place: Path) -> None:
    fused = ("--fuse", "mine=dss,n_params", "--accuracy", "top1", "-f", "json")
    done = tftas(place, "correlate", "t.csv", *SMALL, *SCORE, *fused)
    assert done.returncode == 0, done.stderr
    assert "mine" in [row["metric"] for row in json.loads(done.stdout)]


def test_numbers_as_people_read_them() -> None:
    assert _with_interval(Estimate(-0.001, -0.204, 0.1)) == "0.00 [-0.20, 0.10]"
    assert _with_interval(Estimate(None)) == "-" and _with_interval(Estimate(1.0)) == "1.00"
    times = [_milliseconds(seconds) for seconds in (2.2934, 0.14, 0.0705, 0.00371)]
    assert times == ["2,293", "140", "70.5", "3.71"]


def test_every_format(tftas: Run, place: Path) -> None:
    command = ("correlate", "t.csv", *SMALL, *SCORE, "--accuracy", "top1", "--bands", "3")
    rows = json.loads(tftas(place, *command, "-f", "json").stdout)
    assert [row["metric"] for row in rows] == [
        "n_params", "macs", "depth", "width", "dss_collapsed",
    ]  # fmt: skip
    table = list(csv.DictReader(io.StringIO(tftas(place, *command, "-f", "csv").stdout)))
    assert list(table[0]) == list(rows[0])
    assert [float(row["tau"]) for row in table] == [row["tau"] for row in rows]
    assert table[0]["taus"] == " ".join(map(str, rows[0]["taus"]))


def test_a_plot_beside_the_table(tftas: Run, place: Path) -> None:
    done = tftas(
        place,
        "correlate",
        "t.csv",
        *SMALL,
        *SCORE,
        "--plot",
        "w.html",
        PYTHONPATH=":".join(sys.path),
    )
    assert done.returncode == 0, done.stderr
    assert "Drawn to w.html." in done.stderr and "b_acc" in (place / "w.html").read_text()


def test_a_front_with_a_column_of_accuracies(tftas: Run, searched: Path, tmp_path: Path) -> None:
    """What `front -f csv` prints needs no more than that; its scores are compared too."""
    lines = tftas(searched, "front", "-f", "csv").stdout.splitlines()
    rows = [f"{line},{i * 3 % 7}" for i, line in enumerate(lines[1:])]
    (tmp_path / "t.csv").write_text("\n".join([f"{lines[0]},acc", *rows]))
    space = ("--space", str(searched / "small.yaml"), *SMALL[2:])
    done = tftas(tmp_path, "correlate", "t.csv", *space, *SCORE, "-f", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["n"] for row in found] == [len(rows)] * 7
    computed, theirs, exact = found[4:]
    names = [row["metric"] for row in (computed, theirs, exact)]
    assert names == ["dss_collapsed", "dss_collapsed (table)", "dss"]
    assert computed["tau"] == theirs["tau"] and theirs["seconds"] is None


def test_a_study_whose_trials_were_retrained(tftas: Run, searched: Path, tmp_path: Path) -> None:
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path}/tftas.db")
    command = ("correlate", "--study", "small", *SCORE)
    done = tftas(tmp_path, *command)
    assert done.returncode == 1
    assert "has no accuracies; train some of its architectures" in done.stderr
    for number in range(6):
        record_accuracy(study, number, {"top1": 50.0 + number * 5 % 7})
    done = tftas(tmp_path, *command, "-f", "json")
    assert done.returncode == 0, done.stderr
    assert [row["n"] for row in json.loads(done.stdout)] == [6] * 5
    assert "bands: 1 in place of 5, as top1 is known of 6 architectures" in done.stderr
    assert (tmp_path / "small.scores.json").is_file()
    for number in range(5):
        key = record_accuracy(study, number, {"top1": 20.0 + number, "epochs": 2})
    shown = tftas(tmp_path, *command)
    assert f"left out: trainings under other conditions, {key} (5 trials)" in shown.stderr
    assert "top1 of 6 architectures in small; trainings " in shown.stdout
    done = tftas(tmp_path, *command, "--trained", key, "-f", "json")
    rows = json.loads(done.stdout)
    assert {(row["n"], row["trained"]) for row in rows} == {(5, key)}


@pytest.mark.parametrize(
    ("args", "line", "code"),
    [
        ((), "give one of a table, a directory and --study", 2),
        (("t.csv", *SMALL, "--trained", "t"), "--trained is for a --study", 2),
        (("t.csv", "--study", "small"), "give one of a table, a directory and --study", 2),
        (("--study", "s", "--accuracy", "a"), "a --study has its space and its accuracies", 2),
        (("t.csv",), "t.csv does not name its space; give one with --space", 2),
        (("none.csv", *SMALL), "none.csv: cannot be read (No such file or directory)", 2),
        (("t.csv", *SMALL, "--accuracy", "acc"), "accuracy is acc; t.csv has trial, top1", 2),
        (
            ("t.csv", *SMALL, "--indicators", "worth"),
            "indicator 'worth' does not exist; known",
            2,
        ),
        (("t.csv", *SMALL, "--plot", "w.txt"), "plot is 'w.txt', allowed are names that end", 2),
    ],
)
def test_errors_of_one_line(
    tftas: Run, place: Path, args: tuple[str, ...], line: str, code: int
) -> None:
    done = tftas(place, "correlate", *args)
    assert done.returncode == code and not done.stdout
    assert done.stderr.startswith("Error: ") and line in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_help_lists_indicators(tftas: Run, place: Path) -> None:
    done = tftas(place, "correlate", "--help")
    assert done.returncode == 0 and "dss" in done.stdout and "{" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_what_was_cut_off_goes_on(
    tftas: Run, begin: Begin, place: Path, small_space: AutoFormerSpace, how: signal.Signals
) -> None:
    """Scored one by one and exactly, slowly enough to be cut off on the way."""
    write_csv(place / "t.csv", table_rows(draw(small_space, 100)))
    (place / "slowly.py").write_text(_SLOWLY)
    command = ["correlate", "t.csv", *SMALL, *SCORE, "--fidelity", "exact", "-f", "json"]
    whole = tftas(place, *command)
    kept = place / "t.csv.scores.json"
    kept.rename(place / "whole.json")
    program = begin(place / "slowly.py", place, *command)
    while not kept.exists():
        assert program.process.is_alive()
        time.sleep(0.02)
    assert program.process.pid
    os.kill(program.process.pid, how)
    cut = program.end()
    if how == signal.SIGINT:
        assert cut.returncode == 130 and "Go on with the same command." in cut.stderr
    n_kept = len(json.loads(kept.read_text())["scores"][0]["scores"])
    assert 0 < n_kept < 100
    done = tftas(place, *command)
    assert done.returncode == 0
    first, second = (json.loads(text) for text in (whole.stdout, done.stdout))
    for row in (*first, *second):
        del row["seconds"]
    assert first == second


_SLOWLY = """
import time
from tftas_optuna.correlate import cache
from tftas_optuna.scoring import pool as executors
score = executors.score
def slowly(*arguments):
    time.sleep(0.02)
    return score(*arguments)
executors.score = slowly
cache._EVERY = 0.3
from tftas_optuna.cli import main
main()
"""
