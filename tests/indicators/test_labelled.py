"""Accuracy and cross-entropy of slices of a trained supernet on labelled images."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from labelled import PREPROCESSING, draw_folder, keep, three_classes
from menu_cases import SPACES, candidates
from PIL import Image
from timm.data import create_loader
from timm.data.dataset import ImageDataset
from torch import nn

from tftas_optuna import Scorer, TftasError, UnavailableError
from tftas_optuna.metrics import NotFiniteError, get_indicator
from tftas_optuna.scoring.basis import Basis
from tftas_optuna.scoring.conditions import Conditions, EvaluationSource, SupernetSource
from tftas_optuna.supernet.files import Preprocessing, read_supernet, write_supernet

SPACE = three_classes(SPACES["relative"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven images of each of three classes, and two of each to test on."""
    return draw_folder(tmp_path_factory.mktemp("images"), test=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keep(SPACE, tmp_path_factory.mktemp("shared"))


def slowly(
    model: nn.Module, folder: Path, preprocessing: Preprocessing, in_chans: int = 3
) -> tuple[float, float]:
    """Evaluate a network with timm's own data set and loader, image by image."""
    loader = create_loader(
        ImageDataset(str(folder), input_img_mode="L" if in_chans == 1 else "RGB"),
        input_size=(in_chans, 32, 32),
        batch_size=1,
        is_training=False,
        use_prefetcher=False,
        num_workers=0,
        **preprocessing.to_dict(),
    )
    right, losses = [], []
    with torch.no_grad():
        for images, labels in loader:
            logits = model(images)
            right.append(float(logits.argmax(1) == labels))
            losses.append(float(nn.functional.cross_entropy(logits, labels)))
    return 100 * sum(right) / len(right), sum(losses) / len(losses)


@pytest.mark.parametrize("name", SPACES)
def test_values_are_those_of_timms_loader(name: str, folder: Path, tmp_path: Path) -> None:
    space = three_classes(SPACES[name])
    how = PREPROCESSING
    if space.in_chans == 1:
        how = dataclasses.replace(how, mean=(0.4,), std=(0.2,))
    shared = keep(space, tmp_path / "shared", preprocessing=how)
    usual: dict[str, Any] = {"supernet": shared, "data_dir": str(folder), "device": "cpu"}
    accuracy = Scorer(space, indicator="accuracy", **usual)
    cross_entropy = Scorer(space, indicator="cross_entropy", **usual)
    values = set()
    for arch in candidates(space, 5):
        right, loss = slowly(accuracy.subnet(arch), folder / "val", how, space.in_chans)
        assert accuracy(arch) == pytest.approx(right, rel=1e-12)
        assert cross_entropy(arch) == pytest.approx(loss, rel=1e-6)
        values.add(right)
    assert len(values) > 1 and max(values) < 100


def test_several_passes_are_one_evaluation(
    folder: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def values() -> list[float]:
        return [score("cross_entropy", folder, shared)(arch) for arch in candidates(SPACE, 3)]

    at_once = values()
    monkeypatch.setattr("tftas_optuna.indicators.labelled._MOST_IMAGES", {"cpu": 4})
    assert values() == pytest.approx(at_once, rel=1e-6)


def score(name: str, folder: Path, shared: Path | str | None, **changes: Any) -> Scorer:
    data = {"supernet": shared, "data_dir": str(folder), "device": "cpu"}
    return Scorer(SPACE, indicator=name, **{**data, **changes})


def test_a_pickled_scorer_gives_the_same(folder: Path, shared: Path) -> None:
    scorer, arch = score("accuracy", folder, shared, n_images=9), SPACE.largest()
    assert pickle.loads(pickle.dumps(scorer))(arch) == scorer(arch)


def basis(folder: Path, shared: Path, n_images: int | None = None) -> Basis:
    return score("accuracy", folder, shared, n_images=n_images).basis


def rows(basis: Basis, *, held_out: bool = False) -> set[bytes]:
    return {image.numpy().tobytes() for image in basis.labelled(held_out).pixels}


def test_images_are_drawn_evenly_and_the_same_for_everyone(
    folder: Path, shared: Path, tmp_path: Path
) -> None:
    for n_images in range(3, 22):
        counts = basis(folder, shared, n_images).labelled().labels.bincount()
        assert int(counts.sum()) == n_images and int(counts.max() - counts.min()) <= 1
    some = basis(folder, shared, 10).labelled()
    assert basis(folder, shared).labelled().labels.bincount().tolist() == [7, 7, 7]
    assert rows(basis(folder, shared, 6)) < rows(basis(folder, shared, 10))
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert basis(moved, shared, 10).labelled().digest == some.digest


def test_images_held_out_are_no_objectives(folder: Path, shared: Path, tmp_path: Path) -> None:
    tested = basis(folder, shared)
    assert tested.labelled().seen == "21 images of val"
    assert tested.labelled(True).seen == "6 images of test"
    assert rows(tested, held_out=True).isdisjoint(rows(tested))
    halved = basis(shutil.copytree(folder / "val", tmp_path / "flat"), shared)
    assert halved.labelled().labels.bincount().tolist() == [4, 4, 4]
    assert halved.labelled(True).seen == "9 others"
    assert rows(halved, held_out=True).isdisjoint(rows(halved))
    assert rows(halved, held_out=True) | rows(halved) == rows(tested)
    some = basis(tmp_path / "flat", shared, 6)
    assert rows(some) < rows(halved) and rows(some, held_out=True) < rows(halved, held_out=True)


def test_a_folder_test_without_classes_is_none(folder: Path, shared: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    shutil.rmtree(copied / "test")
    (copied / "test").mkdir()
    Image.new("RGB", (40, 40)).save(copied / "test" / "0001.png")
    assert basis(copied, shared).labelled(True).seen == "9 others"


def test_an_image_more_moves_hardly_any(folder: Path, shared: Path, tmp_path: Path) -> None:
    flat = shutil.copytree(folder / "val", tmp_path / "flat")
    before = rows(basis(flat, shared))
    Image.new("RGB", (40, 40), "red").save(flat / "red" / "more.png")
    assert len(before - rows(basis(flat, shared))) <= 1


def test_a_changed_image_is_read_again(folder: Path, shared: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(folder, tmp_path / "copied")
    before = basis(copied, shared).labelled().digest
    Image.new("RGB", (40, 40), "red").save(next((copied / "val" / "red").iterdir()))
    assert basis(copied, shared).labelled().digest != before


def test_a_drawn_supernet_is_refused_unless_asked_for(folder: Path, shared: Path) -> None:
    for name in ("accuracy", "cross_entropy"):
        with pytest.raises(TftasError, match=f"^{name} on a drawn supernet is that of chance"):
            score(name, folder, None)
        with pytest.raises(TftasError, match=f"^{name} needs labelled images"):
            score(name, folder, shared, data_dir=None)
        with pytest.raises(TftasError, match="on a drawn supernet"):
            Scorer(SPACE, device="cpu").sharing(name)
    drawn = score("accuracy", folder, "drawn", seed=3)
    how = Preprocessing((0.5,) * 3, (0.5,) * 3, 0.9, "bicubic")
    for arch in candidates(SPACE, 2):
        assert drawn(arch) == slowly(drawn.subnet(arch), folder / "val", how)[0]


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        (("blue", "green", "pink"), "class 'red' is a folder"),
        (("blue", "green", "red", "white"), "class 'white' is a class of the supernet"),
        (("blue", "red", "green"), "class 1 of .* is 'green', of the supernet 'red'"),
    ],
)
def test_classes_are_those_of_the_supernet(
    names: tuple[str, ...], fact: str, folder: Path, tmp_path: Path
) -> None:
    space = dataclasses.replace(SPACE, num_classes=len(names))
    shared = keep(space, tmp_path / "shared", class_names=names)
    with pytest.raises(TftasError, match=fact) as error:
        Scorer(space, indicator="accuracy", supernet=shared, data_dir=str(folder))
    assert "\n" not in str(error.value)


def test_without_names_the_number_of_classes_counts(folder: Path, tmp_path: Path) -> None:
    space = SPACES["relative"]
    shared = keep(space, tmp_path / "shared", class_names=None)
    with pytest.raises(TftasError, match="val has 3 classes, the network 10"):
        Scorer(space, indicator="accuracy", supernet=shared, data_dir=str(folder))


def test_images_that_do_not_do_are_one_line(folder: Path, shared: Path, tmp_path: Path) -> None:
    flat = shutil.copytree(folder / "val", tmp_path / "flat")
    with pytest.raises(TftasError, match="flat has 12 images to search on, half of its images; n"):
        score("accuracy", flat, shared, n_images=13)
    with pytest.raises(UnavailableError, match="is no folder"):
        score("accuracy", tmp_path / "none", shared)
    first, *others = sorted((flat / "red").iterdir())
    for path in others:
        path.unlink()
    with pytest.raises(UnavailableError, match="has one image of class 'red', and two are needed"):
        score("accuracy", flat, shared)
    shutil.copy(first, flat / "red" / "copy.png")
    for path in (flat / "red").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UnavailableError, match=r"red/.*\.png' cannot be read: .*") as error:
        score("accuracy", flat, shared)
    assert "\n" not in str(error.value)


def test_a_network_without_finite_answers_has_no_accuracy(
    folder: Path, shared: Path, tmp_path: Path
) -> None:
    trained = read_supernet(shared)
    (tmp_path / "broken").mkdir()
    tensors = {**trained.tensors, "head.bias": torch.full((3,), torch.nan)}
    write_supernet(dataclasses.replace(trained, path=tmp_path / "broken", tensors=tensors))
    with pytest.raises(NotFiniteError, match="accuracy"):
        score("accuracy", folder, tmp_path / "broken")(SPACE.smallest())


def test_other_images_elsewhere_are_an_error(folder: Path, shared: Path) -> None:
    source = EvaluationSource(str(folder), 10, "0" * 64)
    conditions = Conditions.of(SPACE, supernet=SupernetSource.of(shared), evaluation=source)
    with pytest.raises(UnavailableError, match="holds other images on"):
        Basis(conditions, "cpu").labelled()


def test_only_what_sees_labelled_images_depends_on_them(folder: Path, shared: Path) -> None:
    conditions = score("accuracy", folder, shared).conditions
    source = EvaluationSource(str(folder), None, "1" * 64, "21 images of val")
    seen = dataclasses.replace(conditions, evaluation=source)
    other = dataclasses.replace(seen, evaluation=dataclasses.replace(source, digest="2" * 64))
    without = dataclasses.replace(seen, evaluation=None)
    scorer = score("accuracy", folder, shared)
    assert seen.key(scorer.indicator) != other.key(scorer.indicator)
    assert "labelled images" in str(seen.differs_from(other))
    for name in ("dss", "snip", "az_nas"):
        indicator = get_indicator(name)
        assert seen.key(indicator) == other.key(indicator) == without.key(indicator)
    again = Conditions.from_dict(seen.to_dict())
    assert again == seen and again.evaluation == source
