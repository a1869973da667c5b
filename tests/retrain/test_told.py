"""What a training says on its way, and what it refuses before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from trainings import PLAIN

from tftas_optuna import TftasError
from tftas_optuna.retrain import load_recipe, run
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.network import Network, build_network, resolve_network
from tftas_optuna.retrain.run import Epoch
from tftas_optuna.retrain.slices import resolve_weights
from tftas_optuna.retrain.timing import seconds_per_epoch
from tftas_optuna.retrain.trainees import SingleNetwork


@pytest.mark.parametrize(("lr", "learns"), [(0.0, False), (3e-3, True)])
def test_a_training_that_learns_nothing_says_so(
    train: Any, tmp_path: Path, lr: float, learns: bool
) -> None:
    told: list[str] = []
    train(tmp_path / "out", epochs=4, lr=lr, min_lr=0.0, sched="constant", told=told.append)
    said = [line for line in told if "no better than chance" in line]
    assert len(said) == (not learns)
    if not learns:
        assert "after 3 epochs is no better than chance (33.33 %); try another --lr" in said[0]


def test_no_range_test_is_advised_after_a_range_test() -> None:
    told: list[str] = []
    watch = run._watch_chance(
        lambda _: None, load_recipe("quick", {"lr": "auto"}), 100, 10, told.append
    )
    watch(Epoch({"epoch": 5, "top1": 10.0}, 30))
    (line,) = told
    assert "try more --epochs, another --recipe, and look" in line and "--lr" not in line


def test_another_number_of_classes_than_the_file_names(
    train: Any, tiny: Network, tmp_path: Path
) -> None:
    for num_classes, said in ((5, True), (3, False), (None, False)):
        told: list[str] = []
        network = dataclasses.replace(tiny, num_classes=num_classes)
        train(tmp_path / str(num_classes), network=network, epochs=1, told=told.append)
        line = "it was searched or written for 5 classes; its classifier gets 3 outputs"
        assert (line in told) == said


@pytest.mark.parametrize(
    ("name", "epochs", "warmup"),
    [("autoformer", 2, 0), ("autoformer", 30, 2), ("quick", 10, 1), ("quick", 60, 3)],
)
def test_a_shorter_training_warms_up_for_less(name: str, epochs: int, warmup: int) -> None:
    assert load_recipe(name, {"epochs": epochs}).warmup_epochs == warmup
    assert load_recipe(name, {"epochs": epochs, "warmup_epochs": 1}).warmup_epochs == 1


def test_a_convolutional_baseline_of_any_size(train: Any, tmp_path: Path) -> None:
    network = resolve_network("test_resnet", img_size=32)
    train(tmp_path / "out", network=network, epochs=1)
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert timm.data.resolve_data_config(model=model)["input_size"] == (3, 32, 32)
    again = resolve_network(tmp_path / "out")
    assert (again.model, again.num_classes, again.img_size) == ("test_resnet", 3, 32)


def test_images_too_small_for_a_model(train: Any, tmp_path: Path) -> None:
    network = resolve_network("vit_tiny_patch16_224", img_size=8)
    with pytest.raises(TftasError, match="patch16_224 takes no images of 8x8 pixels; give"):
        train(tmp_path / "out", network=network)
    assert not (tmp_path / "out").exists()


def test_pretrained_weights_of_what_was_found(tiny: Network, tmp_path: Path) -> None:
    with pytest.raises(TftasError, match="tiny is no model of timm, so it has no pretrained"):
        build_network(tiny, num_classes=3, weights="pretrained")
    assert resolve_weights(tiny, f"local-dir:{tmp_path}", None) == str(tmp_path)


def test_the_time_of_an_epoch_is_that_of_its_steps(
    images: Path, tiny: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("tftas_optuna.retrain.timing.time.monotonic", lambda: float(next(clock)))
    seconds = seconds_per_epoch(
        SingleNetwork(tiny),
        load_recipe("quick", {**PLAIN, "lr": "auto"}),
        DataSource(images),
        world=World(torch.device("cpu")),
    )
    # Nine steps of a second, and a third of that per image for the 21 beside the 72.
    assert seconds == pytest.approx(9 * (1 + 21 / 72 / 3))
