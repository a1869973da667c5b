"""A directory that a training left is taken wherever a network is."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner
from images import draw_images

from tftas_optuna.cli import main
from tftas_optuna.export.networks import export_network
from tftas_optuna.retrain.network import build_network, resolve_network
from tftas_optuna.study.front import get_candidate

QUICK = (
    *("--recipe", "quick", "--epochs", "1", "--batch-size", "8", "--img-size", "32", "-q"),
    *("--data-dir", "images", "--device", "cpu", "--workers", "0"),
)


def call(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, args)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``found``, a member of AutoFormer-Tiny, and ``plain``, a model of timm; and images."""
    folder = tmp_path_factory.mktemp("place")
    draw_images(folder / "images", train=4, val=3, side=32)
    for label, name in (("found", "tf-tas-tiny"), ("plain", "test_vit")):
        network = resolve_network(name, img_size=32)
        model = build_network(network, num_classes=3)
        export_network(model, folder / label, "timm", trained=True)
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_score(place: Path) -> None:
    code, out, err = call("score", "found", "local-dir:plain", "-f", "json", "--device", "cpu")
    assert code == 0, err
    found, plain = json.loads(out)
    assert (found["name"], found["img_size"], found["num_classes"]) == ("found", 32, 3)
    assert (plain["name"], plain["img_size"], plain["num_classes"]) == ("local-dir:plain", 32, 3)
    assert found["dss"] > 0 and plain["dss"] > 0


def test_start_of_a_search() -> None:
    arguments = ("run", "--n-trials", "2", "--objectives", "macs,n_params", "--start", "found")
    code, _, err = call(*arguments, "--storage", "sqlite:///start.db", "-q", "--device", "cpu")
    assert code == 0, err
    study = optuna.load_study(study_name="autoformer-tiny", storage="sqlite:///start.db")
    assert get_candidate(study, 0).architecture == resolve_network("found").architecture
    code, _, err = call(*arguments[:-1], "local-dir:plain")
    assert code == 2 and "local-dir:plain holds a network of timm, which is part of no" in err
    code, _, err = call(*arguments, "--start", "autoformer-tiny")
    assert code == 2 and "--start autoformer-tiny: a block with" in err


def test_training_goes_on_from_it() -> None:
    code, out, err = call(
        *("retrain", "local-dir:found", "--weights", "local-dir:found", *QUICK),
        *("--out", "more", "-f", "csv"),
    )
    assert code == 0, err
    (row,) = csv.DictReader(out.splitlines())
    assert (row["name"], row["out"]) == ("found", "more/found")
