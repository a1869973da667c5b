from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import timm
import torch
import yaml
from timm.layers import LayerNorm
from timm.models.vision_transformer import VisionTransformer

import tftas_optuna.models  # noqa: F401  (registers the networks)
from tftas_optuna import Architecture, TftasError, build_model
from tftas_optuna.architecture import AutoFormerArchitecture, PiTArchitecture
from tftas_optuna.architecture.published import reference_macs
from tftas_optuna.passes.networks import count_macs
from tftas_optuna.spaces import published_architectures

SMALL = PiTArchitecture(4, (1, 2, 1), (1, 2, 4), 2.5, patch_size=8, stride=4)


@pytest.mark.parametrize(
    ("name", "n_params"),
    [
        ("tf-tas-pit-tiny", 4_732_120),
        ("tf-tas-pit-xs", 10_643_464),
        ("tf-tas-pit-small", 24_966_496),
    ],
)
def test_the_published_networks(name: str, n_params: int) -> None:
    arch = published_architectures()[name]
    with torch.device("meta"):
        model = build_model(arch, img_size=224, num_classes=1000)
    costs = arch.costs(img_size=224, num_classes=1000)
    assert costs.n_params == n_params == sum(p.numel() for p in model.parameters())
    assert count_macs(model) == pytest.approx(costs.macs, rel=1e-6)


@pytest.mark.parametrize("img_size", [8, 30, 64])
def test_costs_at_other_sizes(img_size: int) -> None:
    sizes = {"img_size": img_size, "num_classes": 7, "in_chans": 1}
    model, costs = build_model(SMALL, **sizes), SMALL.costs(**sizes)
    assert costs.n_params == sum(p.numel() for p in model.parameters())
    # The counter sees products alone; a product with one vector may count as a sum to it.
    assert count_macs(model) == pytest.approx(costs.macs, rel=0.02)
    side = model.patch_embed.grid_size[0]
    assert SMALL.grids(img_size)[0] == side


def test_patches_may_overlap_by_any_amount() -> None:
    arch = dataclasses.replace(SMALL, stride=3)
    sizes = {"img_size": 32, "num_classes": 7}
    model, costs = build_model(arch, **sizes), arch.costs(**sizes)
    assert model.patch_embed.grid_size == (9, 9) and arch.grids(32) == (9, 5, 3)
    assert costs.n_params == sum(p.numel() for p in model.parameters())
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 7)


def test_timm_builds_what_was_exported(tmp_path: Path) -> None:
    path = tmp_path / "pit.yaml"
    sizes = {"img_size": 32, "num_classes": 5, "in_chans": 1}
    path.write_text(yaml.safe_dump({"architecture": SMALL.to_dict(), "model": sizes}))
    model = timm.create_model("tftas_pit", arch=str(path))
    assert model.pretrained_cfg["input_size"] == (1, 32, 32)
    images = torch.randn(2, 1, 32, 32)
    assert model(images).shape == (2, 5)
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)
    stages = timm.create_model("tftas_pit", arch=SMALL, img_size=32, features_only=True)
    maps = [tuple(x.shape) for x in stages(torch.randn(2, 3, 32, 32))]
    assert maps == [(2, 4, 7, 7), (2, 8, 4, 4), (2, 16, 2, 2)]
    with pytest.raises(TftasError, match="builds pit, not autoformer architectures"):
        timm.create_model("tftas_pit", arch=AutoFormerArchitecture(32, (1,), (2.0,)))


def test_without_an_architecture_timms_smallest_is_built() -> None:
    with torch.device("meta"):
        ours, theirs = timm.create_model("tftas_pit"), timm.create_model("pit_ti_224")
    assert {name: weight.shape for name, weight in ours.named_parameters()} == {
        name: weight.shape for name, weight in theirs.named_parameters()
    }
    for key in ("mean", "std", "first_conv", "classifier", "input_size"):
        assert ours.pretrained_cfg[key] == theirs.pretrained_cfg[key], key


def test_written_forms_round_trip() -> None:
    assert Architecture.from_dict(yaml.safe_load(yaml.safe_dump(SMALL.to_dict()))) == SMALL
    assert Architecture.from_dict({"RETRAIN": SMALL.to_retrain()}) == SMALL
    finer = PiTArchitecture(4, (1,), (2,), 2, patch_size=8, stride=2)
    with pytest.raises(TftasError, match="retrain format has no stride"):
        finer.to_retrain()
    with pytest.raises(TftasError, match="family 'pit' has no reference_macs; use macs"):
        reference_macs(finer, img_size=32, num_classes=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": [4, 2, 4]}, "num_heads is \\[4, 2, 4\\]: each stage needs a multiple"),
        ({"num_heads": [2, 3, 6]}, "each stage needs a multiple"),
        ({"num_heads": [1, 2]}, "depth has 3 stages and num_heads 2"),
        ({"depth": 3}, "depth is 3, expected a list with one value per stage"),
        ({"depth": [0, 1, 1]}, "depth is 0, allowed is a whole number 1"),
        ({"mlp_ratio": "4"}, "mlp_ratio holds '4'"),
        ({"stride": 9}, "stride is 9, allowed is a whole number 1 to 8"),
        ({"heads": 3}, "unknown key 'heads' in a pit architecture; did you mean 'num_heads'"),
        ({"base_dim": None}, "base_dim is None"),
    ],
)
def test_bad_values_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        Architecture.from_dict({**SMALL.to_dict(), **change})


def test_heads_that_share_the_width_are_timms() -> None:
    arch = AutoFormerArchitecture(
        48,
        (3, 3),
        (2.0, 2.0),
        head_dim=None,
        patch_size=8,
        relative_position=False,
        global_pool="token",
    )
    ours = build_model(arch, img_size=32, num_classes=5).eval()
    theirs = VisionTransformer(
        img_size=32,
        patch_size=8,
        num_classes=5,
        embed_dim=48,
        depth=2,
        num_heads=3,
        mlp_ratio=2,
        norm_layer=lambda width, **kwargs: LayerNorm(width, eps=1e-5),
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))
    assert arch.costs(img_size=32, num_classes=5).n_params == sum(
        p.numel() for p in theirs.parameters()
    )
