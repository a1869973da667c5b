"""Images that are damaged, hidden, or grey of 16 bits."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from images import draw_images
from PIL import Image

from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.data import DataSource, Images, open_data

Train = Callable[..., dict[str, Any]]
Damage = Callable[[Path], None]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """24 images to train on and 6 to evaluate on, three classes."""
    return draw_images(tmp_path / "data", train=8, val=2)


def opened(root: Path, *, in_chans: int = 3, **fields: Any) -> Images:
    source = DataSource(root, **fields)
    images, _ = open_data(source, in_chans=in_chans, num_classes=None, batch_size=8, seed=0)
    return images


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 60)


def no_image(path: Path) -> None:
    path.write_text("no image")


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def bomb(path: Path) -> None:
    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))


def broken_chunk(path: Path) -> None:
    # Pillow raises a SyntaxError here.
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\x0d" + b"!!!!" + b"\x00" * 30)


DAMAGES = [empty, cut_short, no_image, bomb, broken_chunk]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_image_to_evaluate_on_is_named_before_the_training(
    train: Train, data: Path, tmp_path: Path, damage: Damage
) -> None:
    damage(data / "val" / "red" / "001.png")
    with pytest.raises(
        UnavailableError, match=r"image '.*val/red/001\.png' cannot be read: .*; replace or delete"
    ) as told:
        train(tmp_path / "out", data=data)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_image_to_train_on_is_named_once(
    train: Train, data: Path, tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    damage(data / "train" / "red" / "001.png")
    assert train(tmp_path / "out", data=data)["n_train"] == 24
    lines = [record.getMessage() for record in caplog.records if "001.png" in record.message]
    # What is empty is known before, with all others that are.
    assert len([line for line in lines if "cannot be read" in line]) == 1
    assert ("empty images to train on: 1 (red/001.png)" in lines[0]) == (damage is empty)


def test_many_damaged_images_to_train_on_fill_no_screen(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = draw_images(tmp_path / "data", train=24, val=2)
    for path in data.glob("train/*/*[02468].png"):
        no_image(path)
    train(tmp_path / "out", data=data, epochs=1)
    lines = [record.message for record in caplog.records if "cannot be read" in record.message]
    assert len(lines) == 10 and lines[-1].endswith("in its place; others will not be named")


def test_damaged_images_in_a_row_are_no_accident(train: Train, data: Path, tmp_path: Path) -> None:
    for path in data.glob("train/*/*.png"):
        no_image(path)
    with pytest.raises(UnavailableError, match=r"image '.*\.png' cannot be read, nor those after"):
        train(tmp_path / "out", data=data)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_damaged_later_is_named_by_the_evaluation(
    train: Train, data: Path, tmp_path: Path, workers: int
) -> None:
    def damage(event: object) -> None:
        no_image(data / "val" / "red" / "001.png")

    with pytest.raises(UnavailableError, match=r"^image '.*val/red/001\.png' cannot be") as told:
        train(tmp_path / "out", data=data, callback=damage, workers=workers)
    assert "\n" not in str(told.value)


def test_torchvision_names_what_it_cannot_read(train: Train, data: Path, tmp_path: Path) -> None:
    no_image(data / "val" / "red" / "001.png")
    with pytest.raises(UnavailableError, match=r"image '.*val/red/001\.png' cannot be read"):
        train(tmp_path / "out", data=data, splits={"dataset": "torch/image_folder"})


def test_hidden_folders_and_files_are_no_images(train: Train, data: Path, tmp_path: Path) -> None:
    image = data / "val" / "red" / "000.png"
    for split in ("train", "val"):
        for hidden in (".ipynb_checkpoints", "red/.ipynb_checkpoints", ".git/objects"):
            (data / split / hidden).mkdir(parents=True)
            shutil.copy(image, data / split / hidden / "000-checkpoint.png")
        shutil.copy(image, data / split / "red" / "._000.png")
    images = opened(data)
    assert images.class_names == ("blue", "green", "red")
    assert (len(images.train), len(images.val)) == (24, 6)
    train(tmp_path / "out", data=data, epochs=1)
    assert timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).num_classes == 3


def test_a_data_directory_that_is_hidden_itself_is_read(data: Path) -> None:
    hidden = data.rename(data.with_name(".data"))
    assert len(opened(hidden).train) == 24


def test_a_hidden_folder_in_an_archive_is_refused(data: Path) -> None:
    for split in ("train", "val"):
        with tarfile.open(data / f"{split}.tar", "w") as archive:
            archive.add(data / split, "")
    archives = {"train_split": "train.tar", "val_split": "val.tar"}
    images = opened(data, **archives)
    assert images.class_names == ("blue", "green", "red") and len(images.val) == 6
    for split in ("train", "val"):
        (data / split / "red").rename(data / split / ".red")
        with tarfile.open(data / f"{split}.tar", "w") as archive:
            archive.add(data / split, "")
    with pytest.raises(
        UnavailableError, match="'.red' is hidden, so it is not a class; delete it"
    ):
        opened(data, **archives)


def test_an_archive_is_trained_on(train: Train, data: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        with tarfile.open(data / f"{split}.tar", "w") as archive:
            archive.add(data / split, "")
    archives = {"train_split": "train.tar", "val_split": "val.tar"}
    how = {"data": data, "workers": 1, "epochs": 1}
    told = train(tmp_path / "archive", splits=archives, **how)
    assert told["top1"] == train(tmp_path / "folder", **how)["top1"]


@pytest.mark.parametrize("dataset", ["", "torch/image_folder"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_of_16_bits_is_grey(data: Path, dtype: type, dataset: str) -> None:
    ramp = np.arange(64, dtype=np.float64).reshape(8, 8) / 63
    pixels = np.rint(ramp * np.iinfo(dtype).max).astype(dtype)
    for path in data.glob("val/*/*.png"):
        Image.fromarray(pixels).save(path)
    for in_chans in (1, 3):
        # torchvision reads colours alone.
        if in_chans == 3 or not dataset:
            image, _ = opened(data, in_chans=in_chans, dataset=dataset).val[0]
            assert image.getbands() == (("L",) if in_chans == 1 else ("R", "G", "B"))
            expected = np.rint(ramp * 255)[..., None]
            assert np.abs(np.asarray(image).reshape(8, 8, -1) - expected).max() <= 1


def test_pixels_of_an_unknown_range_are_refused(train: Train, data: Path, tmp_path: Path) -> None:
    path = data / "val" / "red" / "001.png"
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(path, format="TIFF")
    with pytest.raises(UnavailableError, match="its pixels have mode F, of no known range; give"):
        train(tmp_path / "out", data=data)
