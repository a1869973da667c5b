from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from optuna import Study

from tftas_optuna import TftasError, pareto_front, retrain, retrain_shared, search
from tftas_optuna.cli import main
from tftas_optuna.retrain import load_recipe
from tftas_optuna.retrain.network import Network, build_network, resolve_network
from tftas_optuna.retrain.run import Epoch
from tftas_optuna.spaces import AutoFormerSpace

QUICK: dict[str, Any] = {
    "recipe": "quick",
    "overrides": {"epochs": 1, "warmup_epochs": 0, "batch_size": 8},
    "device": "cpu",
}


@pytest.fixture
def exported(tiny: Network, tmp_path: Path) -> Path:
    """The tiny network as an exported file."""
    assert tiny.architecture is not None
    path = tmp_path / "tiny.yaml"
    document = {"architecture": tiny.architecture.to_dict(), "model": {"img_size": 8}}
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def study(small_space: AutoFormerSpace) -> Study:
    return search(small_space, n_trials=4, population_size=4, img_size=32, seed=5)


def test_it_is_the_command(
    exported: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs: list[int] = []

    def callback(event: object) -> None:
        if isinstance(event, Epoch):
            epochs.append(event.row["epoch"])

    out = tmp_path / "trained"
    row = retrain(exported, data_dir=images, out=out, callback=callback, **QUICK)
    assert (row["name"], row["out"]) == ("tiny", str(out / "tiny"))
    assert epochs == [0] and row["epochs"] == 1 and 0 <= row["top1"] <= 100
    model = timm.create_model(f"local-dir:{row['out']}", pretrained=True)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 3)
    # The command takes it for the training that it was told to do, and that is done.
    command = ["retrain", str(exported), "--data-dir", str(images), "--recipe", "quick"]
    command += ["--epochs", "1", "--set", "warmup_epochs=0", "--batch-size", "8"]
    with pytest.raises(SystemExit):
        main([*command, "--device", "cpu", "--out", str(out), "-f", "json", "-q"])
    assert json.loads(capsys.readouterr().out) == [row]
    assert retrain(str(exported), data_dir=str(images), out=str(out), **QUICK) == row


def test_a_candidate_reports_to_its_study(study: Study, images: Path, tmp_path: Path) -> None:
    (candidate, *_) = pareto_front(study)
    row = retrain(
        candidate, study=study, data_dir=images, out=tmp_path, weights="supernet", **QUICK
    )
    assert row["name"] == f"small-trial{candidate.trial:05d}"
    assert {c.trial: c.top1 for c in pareto_front(study)}[candidate.trial] == row["top1"]
    record = study.user_attrs[f"retrained:{candidate.trial}:{row['trained']}:0"]
    told = {"recipe": "quick", "epochs": 1, "seed": 0, "weights": "supernet", "data": str(images)}
    assert told.items() <= record.items() and record["loss"] == row["loss"]
    about = yaml.safe_load((Path(row["out"]) / "run.yaml").read_text())
    assert about["weights"] == "supernet" and about["network"]["img_size"] == 32


def test_a_candidate_and_its_study_go_together(study: Study, tmp_path: Path) -> None:
    (candidate, *_) = pareto_front(study)
    with pytest.raises(TftasError, match="without its study; give study=.*, or the architecture"):
        retrain(candidate, data_dir=tmp_path)
    with pytest.raises(TftasError, match="study was given with 'test_vit'; give a candidate of"):
        retrain("test_vit", study=study, data_dir=tmp_path)


@pytest.mark.parametrize("img_size", [16, 24])
def test_weights_of_another_image_size_start_a_network(
    tiny: Network, tmp_path: Path, img_size: int
) -> None:
    model: Any = build_network(tiny, num_classes=3, seed=1).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    larger = dataclasses.replace(tiny, img_size=img_size)
    started = build_network(larger, num_classes=3, weights=str(tmp_path / "weights.pth")).eval()
    model.set_input_size((img_size, img_size))
    images = torch.randn(2, 3, img_size, img_size)
    torch.testing.assert_close(started(images), model(images))


def test_an_architecture_has_a_directory_of_its_own(tiny: Network, images: Path) -> None:
    assert tiny.architecture is not None
    other = dataclasses.replace(tiny.architecture, mlp_ratio=(2.0, 2.0))
    networks = [resolve_network(arch, img_size=8) for arch in (tiny.architecture, other)]
    assert all(network.img_size == 8 for network in networks)
    labels = [network.label for network in networks]
    assert len(set(labels)) == 2 and all(label.startswith("autoformer-") for label in labels)
    with pytest.raises(TftasError, match="an architecture alone has no image size"):
        resolve_network(tiny.architecture)
    again = resolve_network(dataclasses.replace(tiny.architecture), img_size=8)
    assert (again.label, again.img_size) == (labels[0], 8)


def test_options_reach_the_training(
    tiny: Network, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def record(network: Network, recipe: Any, source: Any, out: Path, **options: Any) -> Any:
        asked.update(options, network=network, recipe=recipe, source=source, out=out)
        return {}

    monkeypatch.setattr("tftas_optuna.retrain.recorded.train_network", record)
    recipe = load_recipe("deit", {"epochs": 9})
    retrain(
        "tf-tas-tiny",
        data_dir="somewhere",
        dataset="torch/cifar10",
        train_split="a",
        val_split="b",
        download=True,
        recipe=recipe,
        overrides={"lr": 1e-4},
        weights=Path("some.pth"),
        img_size=64,
        num_classes=10,
        out="there",
        device="cpu",
        workers=3,
        tensorboard=True,
    )
    source = asked["source"]
    assert (str(source.root), source.dataset) == ("somewhere", "torch/cifar10")
    assert (source.train_split, source.val_split, source.download) == ("a", "b", True)
    assert asked["recipe"] == dataclasses.replace(recipe, lr=1e-4)
    assert (asked["network"].label, asked["network"].img_size) == ("tf-tas-tiny", 64)
    assert asked["out"] == Path("there/tf-tas-tiny")
    told = {"weights": "some.pth", "num_classes": 10, "workers": 3, "tensorboard": True}
    assert told.items() <= asked.items() and asked["world"].device.type == "cpu"
    retrain(tiny, data_dir=images, recipe="quick", device="cpu")
    assert asked["network"] == tiny and asked["out"] == Path("trained/tiny")


def test_torch_waits_until_a_recipe_is_read() -> None:
    assert "Raises:" in (retrain.__doc__ or "")
    code = (
        "import sys\n"
        "from tftas_optuna import retrain, TftasError\n"
        "try:\n"
        "    retrain('x.yaml', data_dir='.', recipe='slow')\n"
        "except TftasError as error:\n"
        "    print(error)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("unknown recipe 'slow'; known: autoformer, ")
    assert done.stdout.endswith("\nFalse\n"), done.stderr


def test_a_bar_shows_the_steps(
    tiny: Network, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {"base": "quick", "epochs": 2, "batch_size": 8}
    row = retrain(tiny, data_dir=images, recipe=recipe, out=tmp_path, device="cpu", progress=True)
    told = capsys.readouterr().err
    assert re.search(r"tiny: 100%.* 18/18 .*epoch=2/2, ", told)
    assert f"top-1={row['top1']:.2f} %" in told


def test_a_space_is_trained_by_its_mapping(
    small_space: AutoFormerSpace, images: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"data_dir": images, "img_size": 8, "out": tmp_path, **QUICK}
    row = retrain_shared(small_space.to_dict(), **given)
    assert row["name"] == "small-shared"
