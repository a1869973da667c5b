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

from tftas_optuna import Scorer
from tftas_optuna.architecture import read_architecture
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
    assert "held out %" in out and "Searched on 12 images of val; held out: 9 others." in out
    _, out, _ = call("front")
    assert "held out %" in out and "Searched on 12 images of val; held out: 9 others." in out
    _, out, err = call("front", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert all(0 <= float(row["accuracy_held_out"]) <= 100 for row in rows)
    assert "Searched on 12 images of val" in err
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
    Path("space.yaml").write_text(json.dumps(SPACE.to_dict()))
    run = ("run", "--space", "space.yaml", "--n-trials", "2", "--device", "cpu", "-q")
    assert call(*run, "--out", "front")[0] == 0
    file = str(next(Path("front").glob("*.json")))
    names = ("--indicators", "accuracy", "--data-dir", "images", "--device", "cpu", "-f", "json")
    code, _, err = call("score", file, *names)
    assert code == 2 and "accuracy on a drawn supernet is that of chance" in err
    code, out, err = call("score", file, *names, "--supernet", "drawn")
    assert code == 0, err
    scorer = Scorer(SPACE, indicator="accuracy", supernet="drawn", data_dir="images", device="cpu")
    assert json.loads(out)[0]["accuracy"] == scorer(read_architecture(file)[0])
    code, _, err = call("score", "vit_tiny_patch16_224", *names)
    assert code == 2 and "accuracy is that of a slice of a trained supernet" in err


def test_correlate_leaves_both_out_without_images(monkeypatch: pytest.MonkeyPatch) -> None:
    # All indicators, without those that take long.
    few = ["accuracy", "cross_entropy", "dss", "ffn_capacity"]
    monkeypatch.setattr("tftas_optuna.correlate.api.indicator_names", lambda: few)
    archs = draw(SPACE, 12)
    write_csv(Path("t.csv"), table_rows(archs))
    Path("space.yaml").write_text(json.dumps(SPACE.to_dict()))
    base = ("correlate", "t.csv", "--space", "space.yaml", "--device", "cpu", "-f", "json")
    for given, names in ((DATA, few), (DATA[:2], few[2:])):
        code, out, err = call(*base, *given)
        assert code == 0, err
        metrics = {row["metric"].removesuffix("_collapsed") for row in json.loads(out)}
        assert metrics & set(few) == set(names)
    code, _, err = call(*base, "--indicators", "accuracy,dss")
    assert code == 2 and "accuracy on a drawn supernet is that of chance" in err
