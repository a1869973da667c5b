"""``tftas-optuna retrain --race``."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest_cli import write_tiny

from tftas_optuna.cli import main
from tftas_optuna.cli._options import Duration

# Its directories are named by what is left of it.
STUDY = ("--study-name", "my tiny")
CPU = ("--device", "cpu")
RECIPE = (
    *("--recipe", "quick", "--epochs", "4", "--batch-size", "8", "--set", "no_aug=true"),
    *(*CPU, "--workers", "0", "--data-dir", "images"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("place"), widths=(8, 16, 24))


def call(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, args, env={"COLUMNS": "100"})
    return done.exit_code, done.stdout, done.stderr


def test_members_race_and_go_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    code, _, err = call("run", "--space", "tiny.yaml", "--n-trials", "40", *STUDY, "-q", *CPU)
    assert code == 0, err
    front = json.loads(call("front", "-f", "json")[1])
    members = min(len(front), 5)
    smallest = min(front, key=lambda row: row["n_params"])["trial"]
    race = ("retrain", *STUDY, "--race", "--spread", "5", "--baseline", "smallest")
    code, out, err = call(*race, *RECIPE)
    assert code == 0, err
    # Many trainings, one line about their images.
    assert err.count("train 24, val 15 images, 3 classes (train and val)") == 1
    assert f"tiny-trial{smallest:05d} │ baseline" in out and "A difference is told from" in out
    assert "after 2 of 4 epochs dropped: tiny-trial" in err
    (line,) = (line for line in err.splitlines() if " evaluate " in line)
    assert call(*shlex.split(line, comments=True)[1:])[0] == 0
    assert "round 1/1, tiny-trial" in err and "seed 3/3, tiny-trial" in err
    with (place / "trained/my-tiny-race/race.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == members
    assert [row["seeds"] for row in rows].count("3") == (members - 1 + 1) // 2 + 1
    # What is finished stands in the study, once for each seed.
    shown = {row["trial"]: row for row in json.loads(call("front", "-f", "json")[1])}
    for row in rows:
        member = shown[int(row["trial"])]
        trained = place / f"trained/my-tiny-race/{row['name']}-seed2"
        if row["seeds"] == "3":
            config = json.loads((trained / "config.json").read_text())
            assert config["study"] == {"name": "my tiny", "trial": int(row["trial"])}
            assert member["top1"] == pytest.approx(float(row["top1"]))
            assert member["top1_sd"] == pytest.approx(float(row["sd"]))
        else:
            assert member["top1"] is None and not trained.exists()
    # The same command trains nothing and says the same.
    code, again, err = call(*race, *RECIPE)
    assert code == 0 and again == out and ": epoch " not in err, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--race", "--shared"), "--shared trains members together, --race each by itself"),
        (("--timeout", "20m"), "--timeout is for a --race"),
        (("--baseline", "smallest"), "--baseline is for a --race"),
        (("--race", "--timeout", "soon"), "'soon' is no length of time; write it like 20m"),
    ],
)
def test_what_a_race_refuses(arguments: tuple[str, ...], message: str) -> None:
    code, _, err = call("retrain", "--study", "s", "--data-dir", "images", *arguments)
    assert code == 2 and message in err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("20m", 1200), ("1.5h", 5400), ("1h30m", 5400), ("1d", 86400)],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert Duration()(text) == seconds
    for wrong in ("0", "-5", "20 minutes", "m", "", "nan", "inf"):
        with pytest.raises(click.BadParameter):
            Duration()(wrong)
