"""What kind of network a word stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tftas_optuna import AutoFormerArchitecture, TftasError, UnavailableError, build_model
from tftas_optuna.export.networks import export_network
from tftas_optuna.retrain.network import resolve_network
from tftas_optuna.retrain.sources import find_source

ARCH = AutoFormerArchitecture(16, (1, 2), (2.0, 3.0), head_dim=8, patch_size=4)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``net`` for timm and ``net.torchscript.pt``."""
    folder = tmp_path_factory.mktemp("exported")
    model = build_model(ARCH, img_size=8, num_classes=3, in_chans=1, drop_path_rate=0.1)
    for form in ("timm", "torchscript"):
        export_network(model, folder / "net", form, trained=True)
    (folder / "net.onnx").touch()
    (folder / "net.yaml").touch()
    return folder


@pytest.mark.parametrize(
    ("name", "kind", "label"),
    [
        ("net", "directory", "net"),
        ("local-dir:net", "directory", "net"),
        ("net.torchscript.pt", "torchscript", "net"),
        ("net.onnx", "onnx", "net"),
        ("net.yaml", "architecture", "net"),
        ("tf-tas-tiny", "architecture", "tf-tas-tiny"),
        ("test_vit.r160_in1k", "timm", "test_vit.r160_in1k"),
        ("hf-hub:timm/test_vit.r160_in1k", "timm", "test_vit.r160_in1k"),
    ],
)
def test_every_kind_is_told_from_its_spelling_or_its_contents(
    name: str, kind: str, label: str, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported)
    source = find_source(name)
    assert (source.kind, source.label) == (kind, label)


def test_a_directory_goes_before_a_model_of_the_same_name(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_vit").symlink_to(exported / "net")
    monkeypatch.chdir(tmp_path)
    assert find_source("test_vit").kind == "directory"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "'nothing' is neither a file, a directory, a timm model, nor one of auto"),
        ("nothing.onnx", "nothing.onnx does not exist; give a directory of `tftas-optuna retr"),
        ("local-dir:nothing", "nothing does not exist; give a directory of"),
        (".", r"holds no network itself; give one of net$"),
        ("below", "holds no config.json; give a directory that `tftas-optuna retrain` finished"),
        ("shared", "holds a supernet, from which networks are cut; write one as a network: `tft"),
        ("net/model.safetensors", "holds weights without their network; give the directory"),
        ("weights.pt", "holds weights without their network; give the directory"),
    ],
)
def test_what_is_no_network_is_named_with_what_to_give(
    name: str, message: str, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exported)
    for folder in ("below", "shared"):
        Path(folder).mkdir(exist_ok=True)
    Path("shared/supernet.yaml").touch()
    torch.save({"a": torch.zeros(1)}, "weights.pt")
    with pytest.raises(TftasError, match=message):
        find_source(name)


def test_a_kind_that_a_command_does_not_take_is_refused(exported: Path) -> None:
    with pytest.raises(TftasError, match=r"net.onnx is an ONNX file; give a directory of .* timm"):
        find_source(exported / "net.onnx", kinds=("directory", "timm"))


def test_a_directory_is_the_network_that_was_built(exported: Path) -> None:
    network = resolve_network(exported / "net")
    assert network.architecture == ARCH
    assert (network.img_size, network.num_classes, network.in_chans) == (8, 3, 1)
    assert (network.label, network.model) == ("net", "tftas_autoformer")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("test_vit", {"img_size": 64, "num_classes": 5, "in_chans": 1}),
        ("test_convnext", {"num_classes": 5}),
    ],
)
def test_a_directory_of_a_timm_model_too(name: str, sizes: dict[str, Any], tmp_path: Path) -> None:
    model = timm.create_model(name, **sizes)
    path, _ = export_network(model, tmp_path / "net", "timm", trained=True)
    network = resolve_network(f"local-dir:{path}")
    assert (network.model, network.architecture) == (name, None)
    assert network.num_classes == 5 and network.in_chans == sizes.get("in_chans", 3)
    assert network.img_size == sizes.get("img_size", 160)


def test_a_directory_that_cannot_be_built_anew_says_so(tmp_path: Path) -> None:
    model = timm.create_model("test_vit", depth=1)
    path, _ = export_network(model, tmp_path / "net", "timm", trained=True)
    with pytest.raises(TftasError, match="was built with other values of depth than test_vit has"):
        resolve_network(path)
    (path / "config.json").write_text('{"model_args": 3}')
    with pytest.raises(UnavailableError, match=r"config.json is no configuration of timm"):
        resolve_network(path)
