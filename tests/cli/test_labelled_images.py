"""Accuracy of slices of a trained supernet, through the commands."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from labelled import draw_folder, keep, three_classes
from menu_cases import SPACES
from tables import draw, table_rows, write_csv

from tftas_optuna.cli import main

SPACE = three_classes(SPACES["relative"])
DATA = ("--supernet", "shared", "--data-dir", "images")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory with a trained supernet and labelled images."""
    monkeypatch.chdir(tmp_path)
    draw_folder(tmp_path / "images")
    keep(SPACE, tmp_path / "shared")


def call(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, list(args))
    return done.exit_code, done.stdout, done.stderr


def test_run_and_front_show_what_was_held_out() -> None:
    run = ("run", *DATA, "--objectives", "accuracy,n_params", "--bound", "accuracy>=1")
    code, out, err = call(*run, "--n-trials", "6", "--device", "cpu", "-q")
    assert code == 0, err
    assert "held out %" in out and "searched on 12 images of val; held out: 9 others." in out
    _, out, _ = call("front")
    assert "held out %" in out and "searched on 12 images of val; held out: 9 others." in out
    _, out, err = call("front", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert all(0 <= float(row["accuracy_held_out"]) <= 100 for row in rows)
    assert "searched on 12 images of val" in err
    code, _, err = call(*run, "--n-trials", "6", "--n-images", "6", "--device", "cpu", "-q")
    assert code == 1 and "was made with labelled images" in err and err.count("\n") == 1


def test_score_gives_the_value_of_the_trial() -> None:
    run = ("run", *DATA, "--objectives", "cross_entropy,accuracy", "--device", "cpu", "-q")
    assert call(*run, "--n-trials", "4", "--out", "front")[0] == 0
    file = str(next(Path("front").glob("*.json")))
    scores = json.loads(Path(file).read_text())["scores"]
    names = ("--indicators", "accuracy,cross_entropy", "--device", "cpu", "-f", "json")
    code, out, err = call("score", file, *names, "--data-dir", "images")
    assert code == 0, err
    (row,) = json.loads(out)
    assert [row[name] for name in ("accuracy", "cross_entropy")] == [
        scores[name] for name in ("accuracy", "cross_entropy")
    ]
    code, _, err = call("score", file, *names)
    assert code == 2 and "accuracy needs labelled images" in err and err.count("\n") == 1


def test_score_on_a_drawn_supernet_is_refused_unless_asked_for() -> None:
    names = ("--indicators", "accuracy", "--data-dir", "images", "--device", "cpu")
    for given, fact in (
        ((), "accuracy on a drawn supernet is that of chance"),
        (("--supernet", "drawn"), "val has 3 classes, the network 1000"),
    ):
        code, _, err = call("score", "tf-tas-tiny", *names, *given)
        assert code == 2 and fact in err and err.count("\n") == 1


def test_correlate_leaves_both_out_without_images() -> None:
    archs = draw(SPACE, 12)
    write_csv(Path("t.csv"), table_rows(archs))
    Path("space.yaml").write_text(json.dumps(SPACE.to_dict()))
    base = ("correlate", "t.csv", "--space", "space.yaml", "--device", "cpu", "-f", "json")
    named = ("--indicators", "accuracy,cross_entropy,ffn_capacity")
    both = {"accuracy", "cross_entropy"}
    code, out, err = call(*base, *DATA, *named)
    assert code == 0, err
    assert both <= {row["metric"] for row in json.loads(out)}
    code, _, err = call(*base, *named)
    assert code == 2 and "accuracy on a drawn supernet is that of chance" in err
    code, out, err = call(*base, "--n-images", "2")
    assert code == 0, err
    metrics = {row["metric"] for row in json.loads(out)}
    assert "naswot" in metrics and not both & metrics
