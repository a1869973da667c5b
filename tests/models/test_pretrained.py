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
