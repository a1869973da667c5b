"""Pictures of the user's in place of noise."""

from __future__ import annotations

import dataclasses
import os
import shutil
import zlib
from pathlib import Path
from statistics import fmean
from typing import Any

import images as drawings
import numpy as np
import pytest
import textbook_menu
import torch
from menu_cases import SPACES
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from tftas_optuna import Scorer, TftasError, UnavailableError

SPACE = SPACES["relative"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of each of three colours."""
    return drawings.draw_images(tmp_path_factory.mktemp("pictures"), train=8, val=2, side=40)


def scorer(folder: Path | str, indicator: str = "snip", **changes: Any) -> Scorer:
    usual: dict[str, Any] = {"n_images": 6, "device": "cpu"}
    return Scorer(SPACE, indicator=indicator, data_dir=str(folder), **{**usual, **changes})


def test_labels_are_the_folders_and_pixels_are_normalised(folder: Path) -> None:
    seen = scorer(folder, n_images=24)
    assert seen.images.shape == (24, 3, 32, 32)
    # By the order of their names, as everywhere: blue, green, red.
    strongest = seen.images.mean((2, 3)).argmax(1)
    assert torch.equal(strongest, 2 - seen.labels)
    assert sorted(seen.labels.tolist()) == [0] * 8 + [1] * 8 + [2] * 8
    # ImageNet's mean and standard deviation: a channel of value 200 becomes about 1.3 or more.
    assert 0.5 < float(seen.images.amax((2, 3)).max()) < 2.7 and float(seen.images.min()) > -2.2


def test_a_value_is_that_of_the_textbook_on_the_pictures(folder: Path) -> None:
    for name in ("snip", "zico"):
        found = scorer(folder, name, dtype=torch.float64)
        arch = SPACE.smallest()
        by_hand = textbook_menu.MEASURES[name](found.subnet(arch), found.images, found.labels)
        assert found(arch) == pytest.approx(by_hand, rel=1e-6)
        assert found(arch) != Scorer(
            SPACE, indicator=name, n_images=6, dtype=torch.float64, device="cpu"
        )(arch)


def test_a_seed_draws_the_same_pictures_and_another_seed_others(folder: Path) -> None:
    one, same, other = (scorer(folder, seed=seed).images for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_two_batches_share_no_picture(folder: Path) -> None:
    images = scorer(folder, "zico", n_images=12).images
    assert len({image.numpy().tobytes() for image in images}) == 24
    assert torch.equal(scorer(folder, "snip", n_images=12).images, images[:12])


def test_a_folder_without_train_and_val_is_read_itself(folder: Path) -> None:
    assert torch.equal(scorer(folder / "train").images, scorer(folder).images)


def test_too_few_pictures_are_refused(folder: Path) -> None:
    with pytest.raises(TftasError) as told:
        _ = scorer(folder, "zico", n_images=13).images
    assert "holds 24 images, 26 are needed; give more, or a smaller n_images" in str(told.value)
    assert "\n" not in str(told.value) and not isinstance(told.value, UnavailableError)


def test_more_classes_than_the_network_tells_apart_are_refused(folder: Path) -> None:
    # Whichever pictures are drawn.
    for seed in range(6):
        with pytest.raises(TftasError, match="has 3 classes, more than num_classes, which is 2"):
            _ = scorer(folder, num_classes=2, n_images=2, seed=seed).images


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", Path(__file__)):
        with pytest.raises(UnavailableError, match="is no folder; give one with a folder each"):
            _ = scorer(folder).images


def test_a_folder_without_pictures_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "notes.txt").write_text("no picture")
    with pytest.raises(UnavailableError, match="holds no images") as told:
        _ = scorer(tmp_path).images
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\nbroken", b"no picture at all"])
def test_a_picture_that_cannot_be_read_is_unavailable(tmp_path: Path, content: bytes) -> None:
    folder = drawings.draw_images(tmp_path, train=2, val=1)
    for path in (folder / "train").rglob("*.png"):
        path.write_bytes(content)
    with pytest.raises(UnavailableError, match="cannot be read") as told:
        _ = scorer(folder).images
    assert "\n" not in str(told.value)


def test_one_picture_cut_short_is_named_and_no_other_takes_its_place(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype("uint8")
    (tmp_path / "a").mkdir()
    for i in range(3):
        Image.fromarray(noise).save(tmp_path / "a" / f"{i}.jpg")
    os.truncate(tmp_path / "a" / "1.jpg", 900)
    with pytest.raises(UnavailableError, match=r"image '.*1\.jpg' cannot be read: image file is"):
        _ = scorer(tmp_path, n_images=3).images


def test_grey_spaces_see_grey_pictures(tmp_path: Path) -> None:
    folder = drawings.draw_images(tmp_path, train=4, val=1, side=32)
    space = SPACES["shared"]
    seen = Scorer(space, indicator="snip", n_images=6, data_dir=str(folder), device="cpu").images
    assert seen.shape == (6, 1, 32, 32)
    # Normalised by one mean and one deviation, a grey picture's values are few.
    grey = (seen * fmean(IMAGENET_DEFAULT_STD) + fmean(IMAGENET_DEFAULT_MEAN)) * 255
    assert torch.allclose(grey, grey.round(), atol=1e-2) and grey.min() >= -0.01
    odd = dataclasses.replace(space, in_chans=2)
    with pytest.raises(TftasError, match="pictures have 1 or 3 channels, this space has 2;"):
        _ = Scorer(odd, indicator="snip", data_dir=str(folder)).images


def test_an_indicator_that_sees_no_images_needs_no_folder() -> None:
    assert scorer("nowhere", "dss")(SPACE.smallest()) == Scorer(SPACE, device="cpu")(
        SPACE.smallest()
    )


def test_hidden_folders_are_no_classes(folder: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "pictures"))
    for hidden in (".ipynb_checkpoints", "red/.ipynb_checkpoints", ".git/objects"):
        (place / "train" / hidden).mkdir(parents=True)
        shutil.copy(place / "val" / "red" / "000.png", place / "train" / hidden / "a.png")
    seen = scorer(place, n_images=24, num_classes=3)
    assert torch.equal(seen.images, scorer(folder, n_images=24).images)
    with pytest.raises(TftasError, match="holds 24 images, 25 are needed"):
        _ = scorer(place, n_images=25).images


def test_pictures_in_no_folder_of_a_class_are_refused(tmp_path: Path) -> None:
    folder = drawings.draw_images(tmp_path, train=2, val=1)
    shutil.copy(folder / "val" / "red" / "000.png", folder / "train" / "logo.png")
    with pytest.raises(UnavailableError, match=r"train/logo\.png' is in no folder of a class"):
        _ = scorer(folder).images


def test_grey_pictures_of_16_bits_are_seen_as_those_of_8(tmp_path: Path) -> None:
    ramp = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40) * 16 // 257
    for name, pixels in (("eight", ramp.astype(np.uint8)), ("sixteen", ramp * 257)):
        (tmp_path / name / "a").mkdir(parents=True)
        for i in range(2):
            Image.fromarray(pixels).save(tmp_path / name / "a" / f"{i}.png")
    eight, sixteen = (scorer(tmp_path / n, n_images=2).images for n in ("eight", "sixteen"))
    assert torch.equal(eight, sixteen) and float(eight.std()) > 0.1


def test_a_picture_too_large_to_read_is_named(tmp_path: Path) -> None:
    folder = drawings.draw_images(tmp_path, train=2, val=1)
    for path in (folder / "train").rglob("*.png"):
        content = path.read_bytes()
        header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + content[24:29]
        checksum = zlib.crc32(header).to_bytes(4, "big")
        path.write_bytes(content[:12] + header + checksum + content[33:])
    with pytest.raises(UnavailableError, match=r"image '.*png' cannot be read: .*bomb") as told:
        _ = scorer(folder).images
    assert "\n" not in str(told.value)
