from __future__ import annotations

import csv
import io
import json
import shutil
import time
from pathlib import Path

import optuna
import pytest
import yaml
from conftest_cli import Run
from images import draw_images

from tftas_optuna.cli import main

QUICK = ("--recipe", "quick", "--epochs", "1", "--set", "warmup_epochs=0", "--batch-size", "8")
MACHINE = ("--device", "cpu", "--workers", "0")


@pytest.fixture
def place(searched: Path, tmp_path: Path) -> Path:
    """A directory with a searched study and images of three classes, 32x32 pixels."""
    shutil.copytree(searched, tmp_path, dirs_exist_ok=True)
    draw_images(tmp_path / "images", train=8, val=4, side=32)
    return tmp_path


@pytest.mark.slow
def test_from_a_front_to_accuracies_and_files_that_run(tftas: Run, place: Path) -> None:
    before = json.loads(tftas(place, "front", "-f", "json").stdout)
    command = ("retrain", "--study", "small", "--top", "2", "--data-dir", "images", *QUICK)
    done = tftas(place, *command, *MACHINE, "--weights", "supernet", "-f", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == [
        f"small-trial{row['trial']:05d}" for row in before[:2]
    ]
    first = f"{rows[0]['name']}: train 24, val 12 images, 3 classes (train and val)"
    assert done.stderr.startswith(first)
    assert "epoch 1/1, train loss" in done.stderr and "top-1" in done.stderr
    front = {row["trial"]: row for row in json.loads(tftas(place, "front", "-f", "json").stdout)}
    for row in rows:
        member = front[int(row["name"][-5:])]
        assert member["top1"] == row["top1"] and member["dss"] > 0
    assert sum(member["top1"] is not None for member in front.values()) == 2
    table = tftas(place, "front").stdout
    assert "top-1 %" in table and f"{rows[0]['top1']:.2f}" in table
    printed = csv.DictReader(io.StringIO(tftas(place, "front", "-f", "csv").stdout))
    assert sum(bool(row["top1"]) for row in printed) == 2
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{place}/tftas.db")
    trial, key = int(rows[0]["name"][-5:]), rows[0]["trained"]
    assert f"top-1 of trainings {key}: recipe quick" in table
    record = study.user_attrs[f"retrained:{trial}:{key}:0"]
    assert (record["recipe"], record["weights"], record["seed"]) == ("quick", "supernet", 0)

    out = rows[0]["out"]
    recipe = yaml.safe_load((place / out / "recipe.yaml").read_text())
    assert (recipe["name"], recipe["epochs"], recipe["batch_size"]) == ("quick", 1, 8)
    done = tftas(place, "export", out, "-f", "torchscript", "-f", "timm", "--out", "deployed")
    assert done.returncode == 0, done.stderr
    name = rows[0]["name"]
    assert done.stdout.splitlines() == [f"deployed/{name}.torchscript.pt", f"deployed/{name}"]
    assert done.stderr.count("computes as PyTorch does") == 2
    config = json.loads((place / f"deployed/{name}/config.json").read_text())
    assert config["weights"] == "trained" and "tag" not in config["pretrained_cfg"]
    # The study knows where these weights are.
    done = tftas(place, "export", f"--trial={trial}", "-f", "timm", "--out", "again")
    assert done.stdout == f"again/{name}\n", done.stderr
    weights = (place / f"again/{name}/model.safetensors").read_bytes()
    assert weights == (place / f"deployed/{name}/model.safetensors").read_bytes()


def test_an_untrained_network_of_a_study_leaves_as_a_model(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"sqlite:///{searched}/tftas.db"
    options = ("-f", "timm", "-f", "yaml", "--out", str(tmp_path), "--storage", storage)
    options += ("--weights", "supernet")
    with pytest.raises(SystemExit) as end:
        main(["export", "--best", *options])
    assert not end.value.code
    document, folder = capsys.readouterr().out.splitlines()
    assert f"{document.removesuffix('.yaml')}-untrained" == folder
    assert Path(folder, "model.safetensors").exists()


@pytest.mark.parametrize(
    "command, code, message",
    [
        (("--epochs", "0"), 2, "recipe: epochs is 0, allowed: a whole number"),
        (("--set", "speed=9"), 2, "a recipe has no 'speed'"),
        (("--recipe", "none.yaml"), 2, "none.yaml: cannot be read"),
        (("--no-record",), 2, "--no-record is for a --study"),
        (("--top", "3"), 2, "--top, --spread, --trial and budgets choose from"),
    ],
)
def test_bad_input_is_told_before_anything_is_done(
    command: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["retrain", "x.yaml", "--data-dir", "images", *command])
    told = capsys.readouterr()
    assert end.value.code == code and told.out == ""
    assert told.err.startswith(f"Error: {message}") and told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ("retrain", "--data-dir", "images"),
        ("retrain", "x.yaml", "--study", "s", "--data-dir", "images"),
        ("export", "trained/x", "--best"),
        ("export", "trained/x", "-f", "yaml"),
        ("export", "--weights", "scratch"),
    ],
)
def test_bad_usage(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(command)
    told = capsys.readouterr()
    assert end.value.code == 2 and told.out == ""
    assert told.err.startswith("Error: ") and told.err.count("\n") == 1


def test_what_only_another_process_meets_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    for rank, told in (("0", "Error: "), ("1", "Error: process 1: ")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        with pytest.raises(SystemExit):
            main(("retrain", "--data-dir", "images"))
        assert capsys.readouterr().err.startswith(told + "give ")
        # Time for torchrun to end it, if the first process has said the same.
        assert bool(waited) == (rank == "1")
