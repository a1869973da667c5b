"""What is trained on is not evaluated on, and both are told."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from images import draw_images

from tftas_optuna import TftasError, retrain
from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.data import DataSource, Images, open_data
from tftas_optuna.retrain.network import Network

Train = Callable[..., dict[str, Any]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """24 images to train on and 6 to evaluate on, three classes."""
    return draw_images(tmp_path / "data", train=8, val=2)


def opened(root: Path, *, batch_size: int = 8, **fields: Any) -> Images:
    source = DataSource(root, **fields)
    images, _ = open_data(source, in_chans=3, num_classes=None, batch_size=batch_size, seed=0)
    return images


def names_of(data: Any) -> list[str]:
    return sorted(data.filenames())


def refused(root: Path, message: str, **fields: Any) -> None:
    with pytest.raises(UnavailableError, match=message) as told:
        opened(root, **fields)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_a_folder_to_evaluate_on_is_taken_by_its_name(data: Path, name: str) -> None:
    (data / "val").rename(data / name)
    images = opened(data)
    assert (len(images.train), len(images.val)) == (24, 6)
    assert images.summary(3) == f"train 24, val 6 images, 3 classes (train and {name})"


def test_val_comes_before_test(data: Path) -> None:
    draw_images(data / "more", train=1, val=1)
    (data / "more" / "val").rename(data / "test")
    shutil.rmtree(data / "more")
    assert opened(data).about["val_split"] == "val"
    assert len(opened(data, val_split="test").val) == 3


def test_a_misspelt_folder_is_refused_with_those_that_there_are(data: Path) -> None:
    (data / "val").rename(data / "test")
    (data / ".git").mkdir()
    refused(data, "has no folder tset; its folders: test, train; name one", val_split="tset")
    refused(data, "has no folder val; its folders: test, train; name one", val_split="val")
    refused(data, "has no folder trian; its folders: test, train; give", train_split="trian")


def test_a_folder_to_train_on_alone_is_refused(data: Path) -> None:
    shutil.rmtree(data / "val")
    refused(data, "no folder val or .* or test; its folders: train; .* give --val-fraction 0.1 to")


def test_a_flat_folder_of_classes_is_refused(data: Path) -> None:
    refused(
        data / "train", "no folder train; its folders: blue, green, red; .* --val-fraction 0.1"
    )


def test_folders_in_each_other_are_refused(data: Path) -> None:
    for fields in (
        {"val_split": "."},
        {"val_split": "train"},
        {"val_split": "train/red"},
        {"train_split": "."},
    ):
        refused(data, "would use the same images; give two .*; its folders: train, val", **fields)
    shutil.rmtree(data / "val")
    (data / "val").symlink_to(data / "train")
    refused(data, "would use the same images")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_under_two_names_is_refused(data: Path, link: Callable[..., None]) -> None:
    link(data / "train" / "red" / "003.png", data / "val" / "red" / "999.png")
    refused(data, "'red/999.png' would be evaluated on and is 'red/003.png' of the images to")


def test_copies_of_the_images_to_train_on_are_refused(data: Path) -> None:
    shutil.rmtree(data / "val")
    shutil.copytree(data / "train", data / "val")
    refused(data, "images to evaluate on are among those to train on, such as 'blue/")


def test_splits_of_a_data_set_that_are_the_same_are_refused(data: Path) -> None:
    refused(
        data,
        "splits val and val of torch/image_folder are the same",
        dataset="torch/image_folder",
        train_split="val",
        val_split="val",
    )
    refused(
        data / "train",
        "would be evaluated on and is .* of the images to train on, the same file",
        dataset="torch/image_folder",
        train_split="one",
        val_split="other",
    )


def test_images_beside_the_classes_are_refused(data: Path) -> None:
    shutil.copy(data / "val" / "red" / "000.png", data / "val" / "logo.png")
    refused(data, "val/logo.png' is in no folder of a class; move it")


@pytest.mark.parametrize("flat", [True, False])
def test_a_fraction_of_every_class_is_held_back(data: Path, flat: bool) -> None:
    shutil.rmtree(data / "val")
    root = data / "train" if flat else data
    images = opened(root, val_fraction=0.25)
    held_back, rest = names_of(images.val), names_of(images.train)
    assert Counter(Path(name).parent.name for name in held_back) == dict.fromkeys(
        ("red", "green", "blue"), 2
    )
    assert not set(held_back) & set(rest) and len(held_back + rest) == 24
    assert images.about["train_split"] == ("." if flat else "train")
    told = images.summary(3)
    assert told == "train 18, val 6 images, 3 classes (0.25 of each class held back)"


def test_what_is_held_back_depends_on_names_alone(data: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(data / "train", tmp_path / "elsewhere")
    here, there = (opened(root, val_fraction=0.25) for root in (data, moved))
    assert names_of(here.val) == names_of(there.val)
    assert here.about["digest"] == there.about["digest"]
    shutil.copy(moved / "red" / "000.png", moved / "red" / "new.png")
    more = opened(moved, val_fraction=0.25)
    assert set(names_of(more.val)) - {"red/new.png"} <= set(names_of(here.val))


def test_a_fraction_that_leaves_nothing_is_refused(data: Path) -> None:
    for number in range(1, 8):
        (data / "train" / "red" / f"{number:03d}.png").unlink()
    refused(data, "has one image of class 'red', and --val-fraction needs two", val_fraction=0.1)
    # Never all, never none.
    shutil.rmtree(data / "train" / "red")
    assert len(opened(data, val_fraction=0.99, batch_size=2).train) == 2
    assert len(opened(data, val_fraction=0.01).val) == 2


def test_a_fraction_goes_with_nothing_else(data: Path) -> None:
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(TftasError, match="--val-fraction is .*, allowed: between 0 and 1"):
            DataSource(data, val_fraction=fraction)
    with pytest.raises(TftasError, match="does not apply to --val-split val; give one of them"):
        retrain("tf-tas-tiny", data_dir=data, val_split="val", val_fraction=0.1)
    with pytest.raises(TftasError, match="does not apply to data set torch/cifar10"):
        retrain("tf-tas-tiny", data_dir=data, dataset="torch/cifar10", val_fraction=0.1)
    (data / "train").rename(data / "test")
    refused(data, "has no folder train; its folders: test, val; name the one to", val_fraction=0.1)


def test_a_divided_training_goes_on_exactly(train: Train, data: Path, tmp_path: Path) -> None:
    def stop(event: object) -> None:
        if getattr(event, "row", {}).get("epoch") == 0:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"data": data / "train", "splits": {"val_fraction": 0.25}}
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", **options, callback=stop)
    again = train(tmp_path / "stopped", **options)
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    expected = {"train_split": ".", "val_split": ".", "val_fraction": 0.25, "split_seed": 0}
    assert expected.items() <= again.items() and (again["n_train"], again["n_val"]) == (18, 6)
    written = yaml.safe_load((tmp_path / "stopped" / "run.yaml").read_text())["data"]
    assert expected.items() <= written.items()
    assert (
        expected.items() <= json.loads((tmp_path / "stopped" / "result.json").read_text()).items()
    )
    with pytest.raises(UnavailableError, match="with data.n_train 18, not 12; use"):
        train(tmp_path / "stopped", data=data / "train", splits={"val_fraction": 0.5})


def test_the_images_are_told_before_the_training(
    train: Train, tiny: Network, data: Path, tmp_path: Path
) -> None:
    order: list[object] = []
    train(tmp_path / "out", data=data, epochs=1, told=order.append, callback=order.append)
    assert order[0] == "train 24, val 6 images, 3 classes (train and val)"
    assert all(not isinstance(each, str) for each in order[1:])


@pytest.mark.parametrize("name", ["dataset", "train_split", "val_split"])
def test_names_of_data_are_texts(name: str, tmp_path: Path) -> None:
    with pytest.raises(TftasError, match=f"{name} is 5, expected "):
        DataSource(tmp_path, **{name: 5})  # type: ignore[arg-type]
