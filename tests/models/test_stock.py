"""What timm's own classes build is of these classes, and the same network as in ours."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay, param_groups_weight_decay

from tftas_optuna import (
    AutoFormerArchitecture,
    PiTArchitecture,
    TftasError,
    build_model,
    get_space,
)
from tftas_optuna.architecture import Architecture
from tftas_optuna.models import AutoFormer, PiT

VIT = AutoFormerArchitecture(
    24,
    (3,) * 4,
    (2.5,) * 4,
    head_dim=8,
    patch_size=8,
    relative_position=False,
    global_pool="token",
    layer_norm_eps=1e-6,
)
POOLED = dataclasses.replace(VIT, head_dim=None, global_pool="avg", abs_pos=False)
PIT = PiTArchitecture(8, (1, 2), (1, 2), 1.5, patch_size=8, stride=4)
SIZES = {"img_size": 32, "num_classes": 5}


def build(arch: Architecture, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return build_model(arch, **{**SIZES, **kwargs})


@pytest.mark.parametrize(
    ("arch", "theirs", "ours"),
    [
        (VIT, VisionTransformer, AutoFormer),
        (POOLED, VisionTransformer, AutoFormer),
        (PIT, PoolingVisionTransformer, PiT),
    ],
    ids=["vit", "pooled", "pit"],
)
def test_both_classes_are_the_same_network(
    arch: Architecture, theirs: type, ours: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, own = build(arch, drop_path_rate=0.3), build(arch, drop_path_rate=0.3, stock=False)
    assert type(stock) is theirs and type(own) is ours
    assert type(timm.create_model(f"tftas_{arch.family}", arch=arch.to_dict(), **SIZES)) is ours
    assert stock.architecture == own.architecture == arch
    assert resolve_model_data_config(stock) == resolve_model_data_config(own)
    for entry in ("classifier", "first_conv", "num_classes", "input_size", "fixed_input_size"):
        assert stock.pretrained_cfg[entry] == own.pretrained_cfg[entry]
    # Not timm's own weights of that name.
    assert not {"url", "hf_hub_id", "tag"} & {k for k, v in stock.pretrained_cfg.items() if v}
    assert list(stock.state_dict()) == list(own.state_dict())
    own.load_state_dict(stock.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(stock.eval()(images), own.eval()(images))
    for training in (stock.train(), own.train()):
        torch.manual_seed(1)
        training.logits = training(images)
    assert torch.equal(stock.logits, own.logits)
    for groups in (param_groups_weight_decay, param_groups_layer_decay):
        if groups is param_groups_layer_decay and arch is PIT:
            continue  # timm defines no layers of a PiT
        shapes = [
            [(g["weight_decay"], g.get("lr_scale"), [p.shape for p in g["params"]]) for g in made]
            for made in (groups(stock, 0.1), groups(own, 0.1))
        ]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("fields", "beyond"),
    [
        ({"relative_position": True}, "relative positions"),
        ({"num_heads": (3, 3, 3, 2)}, "blocks that differ"),
        ({"mlp_ratio": (2.5, 2.5, 2.5, 3.0)}, "blocks that differ"),
        ({"num_heads": (2,) * 4}, "an attention of 16 in a width of 24"),
        ({"layer_norm_eps": 1e-5}, "a layer_norm_eps of 1e-05, not 1e-06"),
    ],
)
def test_what_timm_has_not_is_of_our_class(fields: dict[str, Any], beyond: str) -> None:
    arch = dataclasses.replace(VIT, **fields)
    assert arch.beyond_timm() == beyond
    assert type(build(arch)) is AutoFormer
    with pytest.raises(TftasError, match=f"it has {beyond}; leave out stock"):
        build(arch, stock=True)


@pytest.mark.parametrize(("arch", "name"), [(VIT, "embed_dim"), (PIT, "mlp_ratio")])
def test_arguments_that_build_another_network_are_refused(arch: Architecture, name: str) -> None:
    with pytest.raises(TftasError, match=f"{name} is 48, the architecture has"):
        build(arch, **{name: 48})
    with pytest.raises(TftasError, match="no such argument.*'heads_up'"):
        build(arch, heads_up=1)
    with pytest.raises(TftasError, match="has no pretrained weights"):
        build(arch, pretrained=True)
    with pytest.raises(TftasError, match="smaller than one patch"):
        build(arch, img_size=7)


def test_arguments_of_timms_class_work_as_there() -> None:
    with pytest.raises(TftasError, match="class_token is False, but tftas_autoformer does not"):
        build(VIT, class_token=False)
    images = torch.randn(1, 3, 40, 48)
    assert build(VIT, dynamic_img_size=True)(images).shape == (1, 5)
    assert build(VIT, global_pool="avg", num_heads=3).global_pool == "avg"
    assert build(VIT, num_classes=0)(torch.randn(1, 3, 32, 32)).shape == (1, 24)
    features = build(PIT, features_only=True)(torch.randn(1, 3, 32, 32))
    assert [tuple(each.shape) for each in features] == [(1, 8, 7, 7), (1, 16, 4, 4)]
    features = build(dataclasses.replace(VIT, num_heads=(3,), mlp_ratio=(2,)), features_only=True)(
        torch.randn(1, 3, 32, 32)
    )
    assert [tuple(each.shape) for each in features] == [(1, 24, 4, 4)]


@pytest.mark.parametrize("name", ["vit-tiny-small", "examples/spaces/deit.yaml", "pit-tiny"])
def test_all_of_these_spaces_are_of_timms_classes(name: str) -> None:
    space = get_space(name)
    archs = [space.smallest(), space.largest(), *(space.sample(seed) for seed in range(20))]
    assert {arch.beyond_timm() for arch in archs} == {None}


def test_the_ladder_of_deit_is_in_its_preset() -> None:
    space = get_space("vit-tiny-small")
    for name, width in (("deit_tiny_patch16_224", 192), ("deit_small_patch16_224", 384)):
        heads = width // 64
        arch = dataclasses.replace(
            space.largest(), embed_dim=width, num_heads=(heads,) * 12, mlp_ratio=(4.0,) * 12
        )
        assert arch in space
        theirs = sum(p.numel() for p in timm.create_model(name).parameters())
        assert space.costs(arch).n_params == theirs
