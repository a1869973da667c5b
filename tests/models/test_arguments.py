"""Every argument of timm's classes works here as it does there, or is refused by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import tftas_optuna.models  # noqa: F401  (registers the networks)
from tftas_optuna import AutoFormerArchitecture, PiTArchitecture, TftasError
from tftas_optuna.architecture import Architecture
from tftas_optuna.export.networks import save_timm

# Without relative positions and with heads of timm's width, AutoFormer is timm's own network.
PLAIN = AutoFormerArchitecture(
    24, (3, 3), (2.0, 2.0), head_dim=None, patch_size=8, relative_position=False
)
RELATIVE = AutoFormerArchitecture(
    16, (1, 2), (2.0, 3.0), head_dim=8, patch_size=8, max_relative_position=2
)
PIT = PiTArchitecture(8, (1, 1), (1, 2), 2.0, patch_size=8, stride=4)
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

# Arguments that work, with a value that is not the usual one.
AUTOFORMER_WORKS: dict[str, Any] = {
    "img_size": 48,
    "in_chans": 1,
    "num_classes": 3,
    "global_pool": "avgmax",
    "pool_include_prefix": True,
    "dynamic_img_size": True,
    "dynamic_img_pad": True,
    "drop_rate": 1.0,
    "pos_drop_rate": 1.0,
    "patch_drop_rate": 0.5,
    "proj_drop_rate": 1.0,
    "attn_drop_rate": 1.0,
    "drop_path_rate": 0.9,
    "weight_init": "skip",
    "device": "meta",
    "dtype": torch.float64,
}
PIT_WORKS: dict[str, Any] = {
    "img_size": 48,
    "in_chans": 1,
    "num_classes": 3,
    "global_pool": "",
    "drop_rate": 1.0,
    "pos_drop_rate": 1.0,
    "proj_drop_rate": 1.0,
    "attn_drop_rate": 1.0,
    "drop_path_rate": 0.9,
    "device": "meta",
    "dtype": torch.float64,
}
# Arguments that are refused, with a value that asks for another network.
AUTOFORMER_REFUSES: dict[str, Any] = {
    "patch_size": 4,
    "embed_dim": 32,
    "depth": 12,
    "num_heads": 4,
    "mlp_ratio": 8.0,
    "pos_embed": "none",
    "qkv_bias": False,
    "qk_norm": True,
    "scale_attn_norm": True,
    "scale_mlp_norm": True,
    "proj_bias": False,
    "init_values": 1e-5,
    "class_token": False,
    "no_embed_class": True,
    "reg_tokens": 1,
    "pre_norm": True,
    "final_norm": False,
    "fc_norm": True,
    "fix_init": True,
    "embed_layer": torch.nn.Identity,
    "embed_norm_layer": "layernorm",
    "norm_layer": "rmsnorm",
    "act_layer": "relu",
    "block_fn": torch.nn.Identity,
    "mlp_layer": torch.nn.Identity,
    "attn_layer": "diff",
}
PIT_REFUSES: dict[str, Any] = {
    "patch_size": 4,
    "stride": 2,
    "stem_type": "plain",
    "base_dims": (16, 16),
    "depth": (2, 2),
    "heads": (2, 2),
    "mlp_ratio": 8.0,
    "distilled": True,
}


def create(arch: Architecture, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    kwargs = {"img_size": 32, "num_classes": 5, **kwargs}
    return timm.create_model(f"tftas_{arch.family}", arch=arch.to_dict(), **kwargs)


def timms(arch: Architecture, **kwargs: Any) -> Any:
    """timm's own network of the same shape."""
    kwargs = {"img_size": 32, "num_classes": 5, **kwargs}
    if isinstance(arch, PiTArchitecture):
        return PoolingVisionTransformer(
            patch_size=8,
            stride=4,
            base_dims=(8, 8),
            depth=arch.depth,
            heads=arch.num_heads,
            mlp_ratio=2,
            **kwargs,
        )
    return VisionTransformer(
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=3,
        mlp_ratio=2,
        fc_norm=False,
        norm_layer=lambda width, **rest: timm.layers.LayerNorm(width, eps=1e-5, **rest),
        **{"global_pool": "avg", **kwargs},
    )


@pytest.mark.parametrize(
    ("theirs", "works", "refuses"),
    [
        (VisionTransformer, AUTOFORMER_WORKS, AUTOFORMER_REFUSES),
        (PoolingVisionTransformer, PIT_WORKS, PIT_REFUSES),
    ],
)
def test_every_argument_of_timms_class_is_accounted_for(
    theirs: Callable[..., Any], works: dict[str, Any], refuses: dict[str, Any]
) -> None:
    assert set(inspect.signature(theirs).parameters) == works.keys() | refuses.keys()


@pytest.mark.parametrize(
    ("arch", "name", "value"),
    [(PLAIN, *item) for item in AUTOFORMER_WORKS.items()]
    + [(PIT, *item) for item in PIT_WORKS.items()],
)
def test_what_works_computes_what_timms_class_computes(
    arch: Architecture, name: str, value: Any
) -> None:
    ours, theirs = create(arch, **{name: value}), timms(arch, **{name: value})
    shapes = {key: (tensor.shape, tensor.dtype) for key, tensor in theirs.state_dict().items()}
    assert shapes == {k: (t.shape, t.dtype) for k, t in ours.state_dict().items()}
    if value == "meta":
        assert {weight.device.type for weight in ours.parameters()} == {"meta"}
        return
    with torch.no_grad():
        for weight in ours.parameters():
            weight.normal_(std=0.2)
    theirs.load_state_dict(ours.state_dict())
    images = IMAGES[:, : ours.in_chans].to(next(ours.parameters()).dtype)
    images = torch.nn.functional.interpolate(images, {"img_size": 48}.get(name, 32))
    for training in (False, True):
        found = []
        for model in (ours, theirs):
            torch.manual_seed(1)
            found.append(model.train(training)(images))
        # AutoFormer draws what it drops in the order that timm does.
        torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("arch", "name", "value"),
    [(RELATIVE, *item) for item in AUTOFORMER_REFUSES.items()]
    + [(PIT, *item) for item in PIT_REFUSES.items()],
)
def test_what_would_have_no_effect_is_refused_by_name(
    arch: Architecture, name: str, value: Any
) -> None:
    with pytest.raises(TftasError, match=f"^{name} is "):
        create(arch, **{name: value})


@pytest.mark.parametrize(
    ("arch", "kwargs", "message"),
    [
        (RELATIVE, {"patch_drop_rate": 0.1}, "patches with relative positions cannot be left out"),
        (RELATIVE, {"global_pool": "map"}, "global_pool is 'map'; allowed for tftas_autoformer"),
        (RELATIVE, {"weight_init": "jax"}, "weight_init is 'jax'; AutoFormer's own is ''"),
        (RELATIVE, {"colour": "red"}, "tftas_autoformer has no argument colour"),
        (PIT, {"global_pool": "avg"}, "global_pool is 'avg'; allowed for tftas_pit: '', 'token'"),
        (PIT, {"init_values": 1e-5}, "tftas_pit has no argument init_values"),
    ],
)
def test_values_that_do_not_work_are_refused(
    arch: Architecture, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(TftasError, match=message):
        create(arch, **kwargs)


def test_what_is_so_anyway_may_be_said() -> None:
    create(RELATIVE, patch_size=8, num_heads=[1, 2], qkv_bias=True, reg_tokens=0, fc_norm=False)
    create(PIT, distilled=False, heads=(1, 2))


@pytest.mark.parametrize("shape", [(64, 64), (24, 48), (48, 24), (32, 32)])
@pytest.mark.parametrize("arch", [PLAIN, RELATIVE])
def test_dynamic_images_give_what_a_network_of_their_size_gives(
    arch: Architecture, shape: tuple[int, int]
) -> None:
    dynamic, fixed = create(arch, dynamic_img_size=True).eval(), create(arch).eval()
    images = torch.randn(2, 3, *shape)
    fixed.set_input_size(shape)
    torch.testing.assert_close(dynamic(images), fixed(images))
    for ours, theirs in zip(
        dynamic.forward_intermediates(images, intermediates_only=True),
        fixed.forward_intermediates(images, intermediates_only=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)
    assert dynamic(IMAGES).shape == (2, 5)


def test_dynamic_images_train_also_recomputed_after_images_of_another_size() -> None:
    images = [torch.randn(2, 3, *shape) for shape in ((24, 48), (48, 24))]
    plain, recomputed = (create(RELATIVE, dynamic_img_size=True) for _ in range(2))
    recomputed.set_grad_checkpointing()
    for model in (plain, recomputed):
        sum(model(batch).square().sum() for batch in images).backward()
    for ours, theirs in zip(recomputed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("mask", ["causal", "boolean", "added"])
def test_masks_are_those_of_timm(fused: bool, mask: str) -> None:
    ours, theirs = create(PLAIN).eval(), timms(PLAIN).eval()
    theirs.load_state_dict(ours.state_dict())
    allowed = torch.rand(17, 17) < 0.7
    allowed.fill_diagonal_(True)
    given: dict[str, Any] = {
        "causal": {"is_causal": True},
        "boolean": {"attn_mask": allowed},
        "added": {"attn_mask": torch.randn(17, 17)},
    }[mask]
    for block in (*ours.blocks, *theirs.blocks):
        block.attn.fused_attn = fused
    torch.testing.assert_close(ours(IMAGES, **given), theirs(IMAGES, **given))
    assert not torch.allclose(ours(IMAGES, **given), ours(IMAGES))


@pytest.mark.parametrize("mask", ["causal", "boolean"])
def test_masks_and_relative_positions_go_together(mask: str) -> None:
    model = create(RELATIVE, img_size=32).eval()
    allowed = torch.ones(17, 17, dtype=torch.bool).tril()
    given: dict[str, Any] = {"causal": {"is_causal": True}, "boolean": {"attn_mask": allowed}}
    found = model(IMAGES, **given[mask])
    for block in model.blocks:
        block.attn.fused_attn = False
    torch.testing.assert_close(model(IMAGES, **given[mask]), found)


@pytest.mark.parametrize(("arch", "n_maps"), [(PLAIN, 2), (RELATIVE, 2), (PIT, 2)])
def test_features_of_two_blocks(arch: Architecture, n_maps: int) -> None:
    backbone = create(arch, features_only=True)
    assert len(backbone(IMAGES)) == n_maps == len(backbone.feature_info.channels())


def test_intermediate_layers_and_pruning_are_timms() -> None:
    ours, theirs = create(PLAIN).eval(), timms(PLAIN).eval()
    theirs.load_state_dict(ours.state_dict())
    for options in ({"n": 2}, {"n": [0], "reshape": True}, {"n": 1, "norm": True}):
        pairs = (model.get_intermediate_layers(IMAGES, **options) for model in (ours, theirs))
        for mine, other in zip(*pairs, strict=True):
            torch.testing.assert_close(mine, other)
    for model in (ours, theirs):
        model.prune_intermediate_layers([0])
    torch.testing.assert_close(ours(IMAGES), theirs(IMAGES))


def test_another_patch_size_is_another_architecture() -> None:
    with pytest.raises(TftasError, match="patch_size is 4, the architecture has 8"):
        create(RELATIVE).set_input_size(patch_size=4)


def test_scripts_are_timms_or_refused() -> None:
    model = create(PIT).eval()
    torch.testing.assert_close(torch.jit.script(model)(IMAGES), model(IMAGES))
    with pytest.raises(TftasError, match=r"cannot be scripted; use torch\.jit\.trace"):
        torch.jit.script(create(RELATIVE))


def test_what_was_changed_after_it_was_built_is_saved_and_loaded_again(tmp_path: Path) -> None:
    model = create(RELATIVE).eval()
    model.set_input_size((48, 64))
    model.reset_classifier(3, "avg")
    save_timm(model, tmp_path, trained=True)
    images = torch.randn(2, 3, 48, 64)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(again(images), model(images))


@pytest.fixture(params=[PLAIN, RELATIVE, PIT], ids=["plain", "relative", "pit"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Path]:
    """A network of images that are no squares, in a directory."""
    model = create(request.param, img_size=(24, 48)).eval()
    save_timm(model, tmp_path, trained=True)
    return model, tmp_path


@pytest.mark.parametrize("shape", [(48, 24), (64, 64)])
def test_weights_of_images_of_another_size_are_resampled(
    saved: tuple[Any, Path], shape: tuple[int, int]
) -> None:
    source, folder = saved
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, img_size=shape).eval()
    before, after = source.state_dict(), model.state_dict()
    assert all(torch.equal(before[k], v) for k, v in after.items() if k != "pos_embed")
    assert model.pretrained_cfg["input_size"] == (3, *shape)
    if hasattr(source, "set_input_size"):
        source.set_input_size(shape)
        images: Tensor = torch.randn(2, 3, *shape)
        torch.testing.assert_close(model(images), source(images))
    else:
        expected = torch.nn.functional.interpolate(
            before["pos_embed"], after["pos_embed"].shape[2:], mode="bicubic", antialias=True
        )
        torch.testing.assert_close(after["pos_embed"], expected)
