"""``evaluate`` and ``predict``, on networks in every kind of file."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner, Result
from PIL import Image

from tftas_optuna import AutoFormerArchitecture, build_model
from tftas_optuna.cli import main
from tftas_optuna.export.networks import export_network

CLASSES = ("ant", "bee", "cat", "dog", "élan", "fox", "gnu")
# In another order than that of the folders.
OUTPUTS = tuple(reversed(CLASSES))
ARCH = AutoFormerArchitecture(
    24, (1, 2), (2.0, 3.0), head_dim=8, patch_size=4, max_relative_position=1
)
FILES = ("net", "local-dir:net", "net.torchscript.pt", "net.onnx")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network in all formats, and images of seven classes; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    torch.manual_seed(0)
    model: Any = build_model(ARCH, img_size=8, num_classes=7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.pretrained_cfg.update(
        label_names=OUTPUTS, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop_pct=0.8
    )
    for form in ("timm", "torchscript", "onnx"):
        export_network(model, folder / "net", form, trained=True)
    rng = np.random.default_rng(0)
    for i, name in enumerate(CLASSES):
        (folder / "images" / "test" / name).mkdir(parents=True)
        for j in range(3 + i):
            pixels = rng.integers(0, 256, (12, 10, 3), dtype="uint8")
            Image.fromarray(pixels).save(folder / "images" / "test" / name / f"{j}.png")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the working directory."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def call(*args: str) -> Result:
    return CliRunner().invoke(main, [*args, "--device", "cpu", "--workers", "0"])


def evaluated(network: str, *options: str) -> dict[str, Any]:
    done = call("evaluate", network, "--data-dir", "images", "-f", "json", *options)
    assert done.exit_code == 0, done.stderr
    (row,) = json.loads(done.stdout)
    return row


def textbook() -> tuple[list[list[int]], int, dict[str, list[float]]]:
    """Return the confusion matrix, the right ones in five guesses, and all probabilities."""
    model = timm.create_model("local-dir:net", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
    matrix, top5 = [[0] * 7 for _ in OUTPUTS], 0
    probabilities = {}
    for path in sorted(Path("images/test").rglob("*.png")):
        with torch.no_grad():
            logits = model(transform(Image.open(path))[None])[0]
        probabilities[str(path)] = logits.softmax(0).tolist()
        truth = OUTPUTS.index(path.parent.name)
        matrix[truth][int(logits.argmax())] += 1
        top5 += truth in logits.argsort(descending=True)[:5].tolist()
    return matrix, top5, probabilities


@pytest.mark.slow
def test_every_kind_of_file_is_judged_as_by_hand(here: Path) -> None:
    matrix, top5, _ = textbook()
    total = sum(map(sum, matrix))
    right = sum(matrix[i][i] for i in range(7))
    assert 0 < right < top5 < total
    for network in FILES:
        row = evaluated(network, "--batch-size", "16")
        assert row["confusion"] == matrix and row["class_names"] == list(OUTPUTS)
        assert row["top1"] == pytest.approx(100 * right / total, abs=1e-3)
        assert row["top5"] == pytest.approx(100 * top5 / total, abs=1e-3)
        assert (row["n_images"], row["split"]) == (total, "test")
        assert row["seconds_per_image"] > 0
        for entry in row["classes"]:
            line = matrix[OUTPUTS.index(entry["class"])]
            own = line[OUTPUTS.index(entry["class"])]
            assert entry["n_images"] == sum(line)
            assert entry["top1"] == pytest.approx(100 * own / sum(line), abs=1e-3)


@pytest.mark.slow
def test_every_kind_of_file_predicts_the_same(here: Path) -> None:
    _, _, probabilities = textbook()
    for network in FILES:
        done = call("predict", network, "images/test", "--top", "2")
        assert done.exit_code == 0, done.stderr
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert {row["file"] for row in rows} == probabilities.keys()
        for row in rows:
            wanted = sorted(zip(probabilities[row["file"]], OUTPUTS, strict=True), reverse=True)
            assert [row["class"], row["class_2"]] == [name for _, name in wanted[:2]]
            found = [float(row["probability"]), float(row["probability_2"])]
            assert found == pytest.approx([p for p, _ in wanted[:2]], abs=1e-3)


def test_the_table_shows_each_class_and_the_sum(here: Path) -> None:
    done = call("evaluate", "net", "--data-dir", "images", "--split", "test")
    matrix, _, _ = textbook()
    right = sum(matrix[i][i] for i in range(7))
    assert f"top-1 {100 * right / sum(map(sum, matrix)):.2f} %, top-5" in done.stdout
    assert all(name in done.stdout for name in CLASSES)
    assert done.stderr == "Kept in net/evaluation-test.json\n"
    kept = json.loads(Path("net/evaluation-test.json").read_text())
    assert kept["confusion"] == matrix


def test_the_confusion_matrix_as_a_file(here: Path) -> None:
    matrix, _, _ = textbook()
    evaluated("net", "--confusion", "tables/confusion.csv")
    rows = list(csv.reader(Path("tables/confusion.csv").open(encoding="utf-8")))
    assert rows[0] == ["class", *OUTPUTS]
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == matrix
    assert [row[0] for row in rows[1:]] == list(OUTPUTS)


def test_top_5_of_five_classes_means_nothing(here: Path) -> None:
    model: Any = build_model(ARCH, img_size=8, num_classes=2)
    export_network(model, Path("two"), "timm", trained=True)
    for name in CLASSES[2:]:
        shutil.rmtree(f"images/test/{name}")
    assert evaluated("two")["top5"] is None


def test_classes_are_found_by_name_and_what_differs_is_told(here: Path) -> None:
    shutil.rmtree("images/test/ant")
    done = call("evaluate", "net", "--data-dir", "images")
    assert done.exit_code == 0 and "images/test has no images of 'ant'\n" in done.stderr
    Path("images/test/fox").rename("images/test/yak")
    done = call("evaluate", "net.torchscript.pt", "--data-dir", "images")
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr == (
        "Error: images/test has 6 classes, and net.torchscript.pt does not know 'yak'; its 7"
        " classes are 'gnu', 'fox', 'élan' and 4 more\n"
    )


def test_a_network_without_names_says_so(here: Path) -> None:
    model: Any = build_model(ARCH, img_size=8, num_classes=7)
    export_network(model, Path("nameless"), "torchscript", trained=False)
    network = "nameless-untrained.torchscript.pt"
    done = call("evaluate", network, "--data-dir", "images")
    assert done.exit_code == 0
    assert f"{network} is untrained" in done.stderr
    assert f"{network} names no classes: its outputs 0 to 6 are taken for" in done.stderr
    done = call("predict", network, "images")
    assert f"{network} names no classes: these are numbers of its outputs\n" in done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["class"] for row in rows} <= set(map(str, range(7)))
    shutil.rmtree("images/test/ant")
    done = call("evaluate", network, "--data-dir", "images")
    assert done.exit_code == 2
    assert "has 7 classes, without names, and images/test has 6; give images of" in done.stderr


def test_a_damaged_image_is_named_and_the_others_are_classified(here: Path) -> None:
    Path("images/test/cat/1.png").write_bytes(b"no image")
    done = call("evaluate", "net", "--data-dir", "images")
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr == (
        "Error: image 'images/test/cat/1.png' cannot be read: it is empty, damaged or no image;"
        " replace or delete it\n"
    )
    done = call("predict", "net", "images", "--out", "new/classes.csv")
    assert done.exit_code == 1 and done.stdout == ""
    first, last = done.stderr.splitlines()
    assert first.startswith("image 'images/test/cat/1.png' cannot be read")
    assert last == "Error: 1 of 42 images could not be read"
    assert len(Path("new/classes.csv").read_text().splitlines()) == 1 + 41


def test_images_may_lie_anywhere_in_a_folder(here: Path) -> None:
    shutil.copy("images/test/cat/0.png", "images/loose.png")
    (here / "images" / ".hidden").mkdir()
    shutil.copy("images/test/cat/0.png", "images/.hidden/a.png")
    done = call("predict", "net", "images")
    files = [row["file"] for row in csv.DictReader(io.StringIO(done.stdout))]
    assert "images/loose.png" in files and len(files) == 43


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ("evaluate", "net", "--data-dir", "none"),
            1,
            "none does not exist; give one with val/CLASS/IMAGE",
        ),
        (("evaluate", "net", "--data-dir", "images", "--split", "no"), 1, "folders: test; name"),
        (("evaluate", "nothing", "--data-dir", "images"), 2, "'nothing' is neither a file, a dir"),
        (("evaluate", "tf-tas-tiny", "--data-dir", "images"), 2, "tf-tas-tiny has no weights; gi"),
        (("evaluate", "tftas_pit", "--data-dir", "images"), 2, "tftas_pit has no weights; give"),
        (("evaluate", "bad.onnx", "--data-dir", "images"), 1, "bad.onnx cannot be loaded"),
        (("evaluate", "old.pt", "--data-dir", "images"), 1, "does not say how its images are pre"),
        (
            ("evaluate", "four", "--data-dir", "images"),
            2,
            "takes images of 4 channels, not 1 or 3",
        ),
        (
            ("evaluate", "bare", "--data-dir", "images"),
            2,
            "bare has no classifier; give a network",
        ),
        (("predict", "net", "none"), 1, "none does not exist; give a folder of images"),
        (("predict", "net", "net/config.json"), 1, "config.json is no folder; give a folder"),
        (("predict", "net", "net"), 1, "net holds no images"),
        (("predict", "net", "images", "--top", "8"), 2, "--top is 8, and net has 7 classes"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    args: tuple[str, ...], code: int, message: str, here: Path
) -> None:
    Path("bad.onnx").write_bytes(b"nothing")
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2)), "old.pt")
    for name, sizes in (("four", {"in_chans": 4}), ("bare", {"num_classes": 0})):
        model: Any = build_model(ARCH, **{"img_size": 8, "num_classes": 7, **sizes})
        if name in args:
            export_network(model, Path(name), "timm", trained=True)
    done = call(*args)
    assert done.exit_code == code and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_a_model_that_cannot_be_downloaded_is_one_line(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        import logging

        logging.getLogger("huggingface_hub.utils._http").warning("Retrying")
        raise OSError("no such host")

    monkeypatch.setattr(timm, "create_model", offline)
    done = call("evaluate", "test_vit", "--data-dir", "images")
    assert (done.exit_code, done.stderr) == (1, "Error: test_vit: no such host\n")


def test_a_directory_that_cannot_be_written_to_is_judged_all_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tftas_optuna.study import evaluated as room

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room, "write_evaluation", full)
    done = call("evaluate", "net", "--data-dir", "images")
    assert done.exit_code == 0 and "top-1" in done.stdout
    assert done.stderr == "net: the evaluation is not kept there (No space left on device)\n"
