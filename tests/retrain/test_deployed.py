"""Exported files from elsewhere may say and compute anything; what cannot be used is one line."""

from __future__ import annotations

import dataclasses
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tftas_optuna
from tftas_optuna.errors import UnavailableError
from tftas_optuna.export.networks import export_network
from tftas_optuna.retrain.deployed import open_network
from tftas_optuna.retrain.network import Network, build_network

ABOUT: dict[str, Any] = {
    "input_size": [1, 4, 4],
    "mean": [0.5],
    "std": [0.5],
    "crop_pct": 0.9,
    "num_classes": 3,
    "class_names": ["a", "b", "c"],
}


class Three(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]


class Several(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


class Picky(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1] == 7, "seven channels"
        return images


def write(folder: Path, module: nn.Module, **changes: Any) -> Path:
    path = folder / "net.torchscript.pt"
    texts = {name: json.dumps(value) for name, value in {**ABOUT, **changes}.items()}
    texts |= {"interpolation": "bicubic", "crop_mode": "center"}
    texts |= {name: value for name, value in changes.items() if isinstance(value, str)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), str(path), _extra_files=texts)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"input_size": 8},
        {"input_size": [1, 8]},
        {"input_size": [1, 100000, 100000]},
        {"mean": [0.5, 0.5]},
        {"mean": ["a"]},
        {"mean": "[" * 100_000},
        {"mean": "[1e999]"},
        {"std": [0]},
        {"interpolation": "smooth"},
        {"crop_pct": 0},
        {"crop_pct": 1e-9},
        {"crop_mode": "middle"},
        {"num_classes": '"three"'},
        {"num_classes": 3.5},
        {"class_names": ["a", "b"]},
        {"class_names": 5},
        {"class_names": [["a"], ["b"], ["c"]]},
    ],
)
def test_damaged_metadata_is_named(changes: dict[str, Any], tmp_path: Path) -> None:
    assert open_network(write(tmp_path, Three())).class_names == ("a", "b", "c")
    (name,) = changes
    path = write(tmp_path, Three(), **changes)
    with pytest.raises(
        UnavailableError, match=rf"damaged metadata \((too many brackets|{name} is )"
    ):
        open_network(path)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (Several(), r"says that it has 3 classes, and computes \(\) for 2 images$"),
        (Picky(), "cannot compute 2 images of 1x4x4: [^\n]*$"),
        (nn.Flatten(), r"says that it has 3 classes, and computes \(2, 16\) for 2 images$"),
    ],
)
def test_a_file_that_computes_something_else_is_named(
    module: nn.Module, told: str, tmp_path: Path
) -> None:
    network = open_network(write(tmp_path, module))
    with pytest.raises(UnavailableError, match=told):
        network.logits(torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ("pretrained_cfg", {"std": [0.0]}, r"cannot be used: std is \(0.0,\)$"),
        (None, {"num_classes": 7}, "config.json tells two numbers of classes; give a directory"),
    ],
)
def test_a_directory_with_a_damaged_configuration_is_named(
    part: str | None, value: dict[str, Any], told: str, tiny: Network, tmp_path: Path
) -> None:
    model = build_network(dataclasses.replace(tiny, in_chans=1), num_classes=3)
    export_network(model, tmp_path / "net", "timm", trained=True)
    path = tmp_path / "net" / "config.json"
    config = json.loads(path.read_text())
    assert open_network(path.parent).num_classes == 3
    (config if part is None else config[part]).update(value)
    path.write_text(json.dumps(config))
    with pytest.raises(UnavailableError, match=told):
        open_network(path.parent)


def test_a_file_holds_no_paths_of_the_machine_that_wrote_it(tiny: Network, tmp_path: Path) -> None:
    model = build_network(tiny, num_classes=3)
    path, _ = export_network(model, tmp_path / "net", "torchscript", trained=True)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            assert b"site-packages" not in archive.read(entry), entry
            assert bytes(Path(tftas_optuna.__file__).parent) not in archive.read(entry), entry
