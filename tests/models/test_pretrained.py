"""Weights of an exported network in one with other channels or other classes, as timm does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import tower
from timm.models import adapt_input_conv

from tftas_optuna.architecture import Architecture, AutoFormerArchitecture, PiTArchitecture
from tftas_optuna.architecture.parts import FAMILIES
from tftas_optuna.export.networks import export_network
from tftas_optuna.families import register_family

AUTOFORMER = AutoFormerArchitecture(16, (1, 2), (2.0, 3.0), head_dim=8, patch_size=4)
PIT = PiTArchitecture(4, (1, 2, 1), (1, 2, 4), 2.5, patch_size=8, stride=4)
TOWER = tower.Tower(8, 2)


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know the family of the tower for one test."""
    monkeypatch.setattr(FAMILIES, "registered", {})
    register_family(tower.family)


def export(arch: Architecture, path: Path, in_chans: int = 3) -> dict[str, torch.Tensor]:
    """Export a network with five classes and return its weights."""
    torch.manual_seed(0)
    model = timm.create_model(
        f"tftas_{arch.family}",
        arch=arch.to_dict(),
        img_size=32,
        in_chans=in_chans,
        num_classes=5,
    )
    export_network(model, path, "timm", trained=True)
    return model.state_dict()


def load(path: Path, **kwargs: Any) -> Any:
    return timm.create_model(f"local-dir:{path}", pretrained=True, **kwargs)


@pytest.mark.parametrize("num_classes", [5, 7])
@pytest.mark.parametrize("in_chans", [1, 4])
@pytest.mark.parametrize("arch", [AUTOFORMER, PIT, TOWER], ids=lambda arch: arch.family)
def test_other_channels_and_classes_take_the_weights_as_timms_own_do(
    arch: Architecture, in_chans: int, num_classes: int, tmp_path: Path
) -> None:
    before = export(arch, tmp_path / "net")
    model = load(tmp_path / "net", in_chans=in_chans, num_classes=num_classes)
    assert model(torch.randn(2, in_chans, 32, 32)).shape == (2, num_classes)
    first = f"{model.pretrained_cfg['first_conv']}.weight"
    before[first] = adapt_input_conv(in_chans, before[first])
    for name, weight in model.state_dict().items():
        if num_classes == 5 or not name.startswith("head."):
            assert torch.equal(weight, before[name]), name


def test_fewer_channels_become_more(tmp_path: Path) -> None:
    before = export(AUTOFORMER, tmp_path / "net", in_chans=1)
    found = load(tmp_path / "net", in_chans=3).state_dict()["patch_embed.proj.weight"]
    expected = adapt_input_conv(3, before["patch_embed.proj.weight"], base_chans=1)
    assert torch.equal(found, expected)


def test_the_features_of_other_channels_can_be_had(tmp_path: Path) -> None:
    export(PIT, tmp_path / "net")
    stages = load(tmp_path / "net", in_chans=1, features_only=True)
    assert [x.shape[1] for x in stages(torch.randn(2, 1, 32, 32))] == [4, 8, 16]


def test_what_was_adapted_is_exported_and_loaded_again(tmp_path: Path) -> None:
    export(AUTOFORMER, tmp_path / "net")
    model = load(tmp_path / "net", in_chans=1, num_classes=7)
    assert timm.data.resolve_data_config(model=model)["input_size"] == (1, 32, 32)
    path, worst = export_network(model, tmp_path / "grey", "torchscript", trained=True)
    assert path.exists() and worst < 1e-4
    export_network(model, tmp_path / "grey", "timm", trained=True)
    again = load(tmp_path / "grey").state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in model.state_dict().items())


FAMILY = pytest.mark.parametrize("arch", [AUTOFORMER, PIT, TOWER], ids=lambda arch: arch.family)


def by_name(arch: Architecture, **kwargs: Any) -> Any:
    return timm.create_model(f"tftas_{arch.family}", arch=arch.to_dict(), **kwargs)


@FAMILY
def test_a_file_of_weights_is_pretrained_weights(arch: Architecture, tmp_path: Path) -> None:
    before = export(arch, tmp_path / "net")
    file = {"file": str(tmp_path / "net" / "model.safetensors")}
    model = by_name(arch, pretrained=True, pretrained_cfg_overlay=file, img_size=32, num_classes=5)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    described = {**file, "num_classes": 5, "input_size": (3, 32, 32)}
    model = by_name(arch, pretrained=True, pretrained_cfg_overlay=described)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    other = by_name(
        arch, pretrained=True, pretrained_cfg_overlay=described, img_size=64, num_classes=7
    )
    assert other(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    blocks = [name for name in before if "mlp" in name]
    assert all(torch.equal(other.state_dict()[name], before[name]) for name in blocks)


@FAMILY
def test_a_configuration_says_the_sizes_of_a_network_without_weights(arch: Architecture) -> None:
    sizes = {"input_size": (1, 48, 48), "num_classes": 7}
    for given in (
        {"pretrained_cfg": sizes},
        {"pretrained_cfg": timm.models.PretrainedCfg(**sizes)},
        {"pretrained_cfg_overlay": sizes},
    ):
        model = by_name(arch, **given)
        assert model(torch.zeros(1, 1, 48, 48)).shape == (1, 7)
        assert timm.data.resolve_data_config(model=model)["input_size"] == (1, 48, 48)
        # What is asked for goes before.
        model = by_name(arch, **given, img_size=64, in_chans=3, num_classes=2)
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


@FAMILY
def test_a_checkpoint_goes_on_top_of_a_directory(arch: Architecture, tmp_path: Path) -> None:
    before = export(arch, tmp_path / "net")
    torch.save({"state_dict": {k: v + 1 for k, v in before.items()}}, tmp_path / "a.pth")
    for pretrained in (True, False):
        model = timm.create_model(
            f"local-dir:{tmp_path / 'net'}",
            pretrained=pretrained,
            checkpoint_path=str(tmp_path / "a.pth"),
        )
        found = model.state_dict()
        assert all(torch.equal(found[name], before[name] + 1) for name in before)


def test_what_a_user_overlays_on_a_directory_counts_as_with_timms_own(tmp_path: Path) -> None:
    export(AUTOFORMER, tmp_path / "ours")
    export_network(
        timm.create_model("test_vit", num_classes=5), tmp_path / "timms", "timm", trained=True
    )
    for overlay in ({"mean": (0.1, 0.2, 0.3)}, {"num_classes": 9}, {"crop_pct": 0.5}):
        (name,) = overlay
        for net in ("ours", "timms"):
            model = load(tmp_path / net, pretrained_cfg_overlay=overlay)
            assert model.num_classes == 5 and model.pretrained_cfg[name] == overlay[name]
    for net in ("ours", "timms"):
        file = {"file": str(tmp_path / net / "model.safetensors")}
        with pytest.raises(RuntimeError, match="Specified path is not a directory"):
            load(tmp_path / net, pretrained_cfg_overlay=file)
        assert load(tmp_path / net, pretrained_cfg_overlay={**file, "source": "file"}) is not None
