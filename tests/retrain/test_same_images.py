"""A training goes on with the images that it was begun with, known by their files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from images import draw_images

from tftas_optuna.errors import UnavailableError
from tftas_optuna.retrain.data import DataSource, open_data

Train = Callable[..., dict[str, Any]]


def digest(root: Path, **fields: Any) -> str:
    source = DataSource(root, **fields)
    images, _ = open_data(source, in_chans=3, num_classes=None, batch_size=8, seed=0)
    return str(images.about["digest"])


@pytest.fixture
def folds(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of as many images and classes, of other files."""
    one = draw_images(tmp_path / "fold1", train=8, val=2)
    two = Path(shutil.copytree(one, tmp_path / "fold2"))
    for path in sorted(two.glob("*/*/*.png")):
        path.rename(path.with_name(f"other{path.name}"))
    return one, two


def test_other_images_do_not_continue_a_training(
    train: Train, folds: tuple[Path, Path], tmp_path: Path
) -> None:
    result = train(tmp_path / "out", data=folds[0], epochs=1)
    with pytest.raises(
        UnavailableError, match="a training on other images, those of .*fold1; give"
    ):
        train(tmp_path / "out", data=folds[1], epochs=1)
    moved = folds[0].rename(tmp_path / "moved")
    assert train(tmp_path / "out", data=moved, epochs=1) == result


def test_the_digest_is_left_with_the_training(
    train: Train, folds: tuple[Path, Path], tmp_path: Path
) -> None:
    result = train(tmp_path / "out", data=folds[0], epochs=1)
    expected = digest(folds[0])
    written = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert written["data"]["digest"] == expected and len(expected) == 64
    assert result["data_digest"] == expected[:16]
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result


def test_a_digest_knows_names_sizes_splits_and_classes(folds: tuple[Path, Path]) -> None:
    root = folds[0]
    seen = {digest(root)}

    def is_new() -> bool:
        before = len(seen)
        seen.add(digest(root))
        return len(seen) == before + 1

    with (root / "val" / "red" / "000.png").open("ab") as file:
        file.write(b"more")
    assert is_new()
    (root / "train" / "red" / "000.png").rename(root / "train" / "red" / "zero.png")
    assert is_new()
    (root / "train" / "red" / "zero.png").rename(root / "val" / "red" / "zero.png")
    assert is_new()
    for split in ("train", "val"):
        (root / split / "red").rename(root / split / "crimson")
    assert is_new()
    (root / "val").rename(root / "test")
    assert not is_new()


def test_a_digest_knows_images_of_equal_names_and_sizes(folds: tuple[Path, Path]) -> None:
    before = digest(folds[0])
    path = folds[0] / "val" / "red" / "000.png"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert digest(folds[0]) != before


def test_a_data_set_is_known_by_its_name_splits_and_numbers(
    folds: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawn(list[int]):
        classes = ("a", "b")

    sizes = {"train": 16, "validation": 4, "test": 4}
    monkeypatch.setattr(
        "tftas_optuna.retrain.data.create_dataset",
        lambda name, split, **_: Drawn(range(sizes[split])),
    )
    seen = {digest(folds[0], dataset="torch/a"), digest(folds[1], dataset="torch/a")}
    assert len(seen) == 1
    seen.add(digest(folds[0], dataset="torch/b"))
    seen.add(digest(folds[0], dataset="torch/a", val_split="test"))
    sizes["train"] = 17
    seen.add(digest(folds[0], dataset="torch/a"))
    Drawn.classes = ("a", "c")
    seen.add(digest(folds[0], dataset="torch/a"))
    assert len(seen) == 5


def leave_as_release_020(out: Path) -> None:
    about = yaml.safe_load((out / "run.yaml").read_text())
    del about["data"]["digest"]
    about["data"]["val_split"] = "validation"
    (out / "run.yaml").write_text(yaml.safe_dump(about))


def test_a_directory_of_release_020_goes_on_in_its_place(
    train: Train, folds: tuple[Path, Path], tmp_path: Path
) -> None:
    result = train(tmp_path / "out", data=folds[0], epochs=1)
    leave_as_release_020(tmp_path / "out")
    assert train(tmp_path / "out", data=folds[0], epochs=1) == result
    with pytest.raises(UnavailableError, match="a training on other images, those of .*fold1; g"):
        train(tmp_path / "out", data=folds[1], epochs=1)
