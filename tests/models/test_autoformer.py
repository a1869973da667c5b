from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import timm
import torch
import yaml
from timm.data import IMAGENET_INCEPTION_MEAN, resolve_data_config
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.scheduler import create_scheduler_v2
from torch.nn.attention import SDPBackend, sdpa_kernel

import tftas_optuna.models  # noqa: F401  (registers the networks)
from tftas_optuna import (
    Architecture,
    AutoFormerArchitecture,
    PiTArchitecture,
    TftasError,
    build_model,
)
from tftas_optuna.models.blocks import Attention
from tftas_optuna.models.relative_position import RelativePosition2d, key_bias, value_sum
from tftas_optuna.spaces import published_architectures

ARCH = AutoFormerArchitecture(
    48, (1, 3, 2), (2.0, 4.0, 3.5), head_dim=16, patch_size=8, max_relative_position=3
)
PIT = PiTArchitecture(8, (1, 1), (1, 2), 2.0, patch_size=8, stride=4)


def create(**kwargs: object) -> torch.nn.Module:
    return timm.create_model("tftas_autoformer", arch=ARCH.to_dict(), **kwargs)


@pytest.mark.parametrize("grid", [(4, 4), (3, 6)])
def test_factorised_relative_positions_equal_all_pairs(grid: tuple[int, int]) -> None:
    relative = RelativePosition2d(5, 2, grid).double()
    tokens = 1 + grid[0] * grid[1]
    query = torch.randn(2, 3, tokens, 5, dtype=torch.float64)
    attention = torch.randn(2, 3, tokens, tokens, dtype=torch.float64).softmax(-1)
    pairs = torch.empty(tokens, tokens, 5, dtype=torch.float64)
    for i in range(tokens):
        for j in range(tokens):
            row = column = 0
            if i and j:
                (ri, ci), (rj, cj) = divmod(i - 1, grid[1]), divmod(j - 1, grid[1])
                row, column = max(-2, min(2, rj - ri)) + 3, max(-2, min(2, cj - ci)) + 3
            pairs[i, j] = relative.vertical[row] + relative.horizontal[column]
    expected = torch.einsum("bhid,ijd->bhij", query, pairs)
    torch.testing.assert_close(key_bias(query, *relative()), expected)
    expected = torch.einsum("bhij,ijd->bhid", attention, pairs)
    torch.testing.assert_close(value_sum(attention, *relative()), expected)


def attention(relative: bool, drop: float = 0.0) -> Attention:
    torch.manual_seed(0)
    layer = Attention(24, 3, 16, 2 if relative else None, (3, 5), attn_drop=drop)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3)
    return layer


@pytest.mark.parametrize("relative", [False, True])
def test_fused_attention_is_used_and_computes_the_written_out_form(relative: bool) -> None:
    fused, written_out = attention(relative), attention(relative)
    tokens = torch.randn(2, 16, 24)
    twin = tokens.clone().requires_grad_()
    tokens.requires_grad_()
    with torch.profiler.profile() as seen:
        ours = fused(tokens)
    kernel = "scaled_dot_product_flash_attention"
    assert any(kernel in event.key for event in seen.key_averages())
    with sdpa_kernel(SDPBackend.MATH), torch.profiler.profile() as seen:
        theirs = written_out(twin)
    assert not any("scaled_dot_product" in event.key for event in seen.key_averages())
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    ours.sin().sum().backward()
    theirs.sin().sum().backward()
    torch.testing.assert_close(tokens.grad, twin.grad, atol=1e-5, rtol=1e-5)
    for a, b in zip(fused.parameters(), written_out.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-4, rtol=1e-4)


def test_attention_drops_weights_in_training_alone() -> None:
    layer = attention(True, drop=0.5)
    tokens = torch.randn(1, 16, 24)
    assert not torch.equal(layer(tokens), layer(tokens))
    layer.eval()
    torch.testing.assert_close(layer(tokens), attention(True).eval()(tokens))


def test_attention_compiles_into_one_graph() -> None:
    layer, tokens = attention(True), torch.randn(2, 16, 24)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens), layer(tokens))


def test_it_behaves_as_timm_models_do() -> None:
    model = create(num_classes=7, img_size=32, drop_path_rate=0.3).eval()
    images = torch.randn(2, 3, 32, 32)
    features = model.forward_features(images)
    assert features.shape == (2, 17, 48)
    assert model.forward_head(features).shape == (2, 7)
    assert model.forward_head(features, pre_logits=True).shape == (2, 48)
    torch.testing.assert_close(model.forward_head(features), model(images))
    assert model.get_classifier() is model.head
    model.reset_classifier(3)
    assert model(images).shape == (2, 3)
    model.reset_classifier(0)
    assert model(images).shape == (2, 48)
    assert {"pos_embed", "cls_token"} <= model.no_weight_decay()
    rates = [
        block.drop_path1.drop_prob
        for block in model.blocks
        if hasattr(block.drop_path1, "drop_prob")
    ]
    assert rates == pytest.approx([0.15, 0.3])


def test_layer_decay_groups_every_parameter_by_block() -> None:
    model = create(num_classes=7, img_size=32)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    scales = {group["lr_scale"] for group in groups}
    assert scales == {0.5**power for power in range(ARCH.depth + 2)}


def test_features_and_another_input_size() -> None:
    backbone = create(img_size=32, features_only=True, out_indices=(0, 2))
    shapes = [feature.shape for feature in backbone(torch.randn(1, 3, 32, 32))]
    assert shapes == [(1, 48, 4, 4), (1, 48, 4, 4)]
    assert backbone.feature_info.reduction() == [8, 8]
    model = create(img_size=32, num_classes=2).eval()
    model.set_input_size(img_size=(48, 64))
    assert model(torch.randn(1, 3, 48, 64)).shape == (1, 2)
    for block in model.blocks:
        assert block.attn.relative_key.grid == (6, 8)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    model = create(img_size=32, num_classes=2)
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing(True)
    images = torch.randn(2, 3, 32, 32)
    for network in (model, twin):
        network(images).sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("suffix", [".yaml", ".json", ".retrain.yaml"])
def test_an_exported_file_trains_a_step_and_reloads(tmp_path: Path, suffix: str) -> None:
    arch = AutoFormerArchitecture(32, (1, 2), (2.0, 3.0)) if "retrain" in suffix else ARCH
    document = {"architecture": arch.to_dict(), "model": {"img_size": 32, "num_classes": 4}}
    if "retrain" in suffix:
        document = {
            "RETRAIN": {"EMBED_DIM": 32, "DEPTH": 2, "NUM_HEADS": [1, 2], "MLP_RATIO": [2.0, 3.0]}
        }
    path = tmp_path / f"arch{suffix}"
    path.write_text(json.dumps(document) if suffix == ".json" else yaml.safe_dump(document))
    model = timm.create_model("tftas_autoformer", arch=path, num_classes=3, img_size=32)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-2, weight_decay=0.05)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=2)
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    before = torch.nn.functional.cross_entropy(model(images), labels)
    before.backward()
    optimizer.step()
    scheduler.step(1)
    model.eval()
    after = torch.nn.functional.cross_entropy(model(images), labels)
    assert after < before
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    again = timm.create_model(
        "tftas_autoformer",
        arch=arch.to_dict(),
        num_classes=3,
        img_size=32,
        checkpoint_path=tmp_path / "weights.pt",
    ).eval()
    torch.testing.assert_close(again(images), model(images))


def test_the_files_own_settings_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "arch.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "architecture": ARCH.to_dict(),
                "model": {"img_size": 64, "num_classes": 5, "in_chans": 1},
            }
        )
    )
    model = timm.create_model("tftas_autoformer", arch=str(path))
    assert model(torch.randn(1, 1, 64, 64)).shape == (1, 5)
    assert resolve_data_config(model=model)["input_size"] == (1, 64, 64)
    assert timm.create_model("tftas_autoformer", arch=str(path), num_classes=9).num_classes == 9


def test_without_an_architecture_the_papers_own_is_built() -> None:
    model = timm.create_model("tftas_autoformer", num_classes=10, img_size=32)
    assert model.architecture == published_architectures()["autoformer-tiny"]
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    assert resolve_data_config(model=model)["mean"] == IMAGENET_INCEPTION_MEAN
    assert model.pretrained_cfg["first_conv"] == "patch_embed.proj"


def test_a_file_may_describe_a_network_without_classifier(tmp_path: Path) -> None:
    path = tmp_path / "arch.yaml"
    document = {"architecture": ARCH.to_dict(), "model": {"img_size": 32, "num_classes": 0}}
    path.write_text(yaml.safe_dump(document))
    model = timm.create_model("tftas_autoformer", arch=path)
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 48)


def test_images_are_normalised_as_where_the_family_was_published() -> None:
    for name, arch, mean in (
        ("tftas_autoformer", ARCH, (0.5, 0.5, 0.5)),
        ("tftas_pit", PIT, (0.485, 0.456, 0.406)),
    ):
        config = resolve_data_config(model=timm.create_model(name, arch=arch, img_size=32))
        assert (config["mean"], config["crop_pct"], config["interpolation"]) == (
            mean,
            0.9,
            "bicubic",
        )


@pytest.mark.parametrize("arch", [ARCH, PIT])
def test_timm_finds_the_first_and_the_last_layer(arch: Architecture) -> None:
    model = timm.create_model(
        f"tftas_{arch.family}", arch=arch.to_dict(), img_size=32, in_chans=2, num_classes=7
    )
    first = model.get_submodule(model.pretrained_cfg["first_conv"])
    last = model.get_submodule(model.pretrained_cfg["classifier"])
    assert (first.in_channels, last.out_features) == (2, 7)
    assert model.get_classifier() is last


def test_parameters_take_the_type_that_is_asked_for() -> None:
    model = create(img_size=32, dtype=torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model(torch.randn(1, 3, 32, 32, dtype=torch.float64)).dtype == torch.float64


def test_what_it_cannot_build_it_refuses() -> None:
    with pytest.raises(TftasError, match="no pretrained weights"):
        create(pretrained=True)


def test_initial_weights_are_autoformers() -> None:
    model = build_model(
        AutoFormerArchitecture(192, (3,) * 2, (4.0,) * 2), img_size=224, num_classes=1000
    )
    for name, weight in model.named_parameters():
        if name.endswith("bias") and "patch_embed" not in name:
            assert weight.abs().max() == 0
        elif "norm" in name:
            assert weight.min() == weight.max() == 1
        elif "patch_embed" not in name:
            assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.15), name
