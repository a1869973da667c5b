"""What ``score_model`` takes, refuses and leaves behind, on networks of a few lines."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tftas_optuna import TftasError, explain_model, register_indicator, score_model
from tftas_optuna.metrics import registry
from tftas_optuna.passes.networks import count_macs, inspect_model


class Tiny(nn.Module):
    """One block of torch's own; subclasses change what happens to its tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch_embed = nn.Conv2d(3, 16, 8, 8)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
        self.head = nn.Linear(16, 4)

    def change(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def forward(self, images: torch.Tensor) -> Any:
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
        return self.head(self.change(self.block(tokens)).mean(1))


class Huge(Tiny):
    def change(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens * 1e25 * 1e25


class Rounded(Tiny):
    """Which way a sine of such numbers goes is up to rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def change(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.norm((1e12 * tokens).sin().transpose(1, 2)).transpose(1, 2)


class Normalised(Rounded):
    def change(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.norm(tokens.transpose(1, 2)).transpose(1, 2)


class Pair(Tiny):
    def forward(self, images: torch.Tensor) -> Any:
        logits = super().forward(images)
        return logits, logits


def test_gradients_too_large_for_float32_are_computed_in_float64() -> None:
    model = Huge()
    score = score_model(model, img_size=16)
    assert score > 1e40
    assert score == pytest.approx(score_model(model.double(), img_size=16), rel=1e-6)


def test_a_network_whose_score_is_up_to_rounding_is_refused() -> None:
    assert score_model(Normalised(), img_size=16) > 0
    with pytest.raises(TftasError, match="rounding decides the gradients of Rounded"):
        score_model(Rounded(), img_size=16)


def test_a_network_with_two_outputs_is_refused() -> None:
    with pytest.raises(TftasError, match="Pair gives a tuple, not one tensor of logits"):
        score_model(Pair(), img_size=16)


def test_a_classifier_of_zeros_is_refused() -> None:
    model = Tiny()
    nn.init.zeros_(model.head.weight)
    with pytest.raises(TftasError, match="no gradient reaches the attention of Tiny"):
        score_model(model, img_size=16)


def test_an_image_need_not_be_square() -> None:
    wide = timm.create_model("test_vit", img_size=(32, 64), num_classes=5)
    assert score_model(wide, img_size=(32, 64)) == score_model(wide)
    assert count_macs(wide, img_size=(32, 64)) == count_macs(wide)


def test_the_image_has_the_channels_and_the_size_of_the_network() -> None:
    model = timm.create_model("test_vit", in_chans=1, num_classes=5)
    with pytest.raises(TftasError, match="does not take an image of 1 x 100 x 100"):
        score_model(model, img_size=100)
    # This one takes every size, and only its configuration tells which is its own.
    free = timm.create_model("edgenext_xx_small")
    assert count_macs(free) == count_macs(free, img_size=256) > count_macs(free, img_size=224)


def test_a_scored_network_can_be_packed() -> None:
    """Nothing hangs on its layers any more, even where scoring fails."""
    model = timm.create_model("test_vit", img_size=32, num_classes=5)
    score = score_model(model)
    with pytest.raises(TftasError):
        score_model(model, img_size=100)
    assert score_model(pickle.loads(pickle.dumps(model))) == score


def test_a_function_sees_a_network_that_does_not_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", {})
    seen: list[object] = []

    @register_indicator("size")
    def size(model: nn.Module, images: torch.Tensor) -> float:
        seen.append((any(module.training for module in model.modules()), tuple(images.shape)))
        return float(images.sum())

    model = Tiny().train()
    assert score_model(model, indicator="size", img_size=(8, 16)) == 3 * 8 * 16
    assert seen == [(False, (1, 3, 8, 16))] and model.training
    with pytest.raises(TftasError, match="'size' is one number, not a sum over layers"):
        explain_model(model, indicator="size", img_size=16)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_function_without_a_finite_value_is_told(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_indicator("broken", lambda model, images: value)
    with pytest.raises(TftasError, match=f"indicator 'broken' gives {value}"):
        score_model(Tiny(), indicator="broken", img_size=16)


def test_a_convolution_in_groups_is_no_linear_layer() -> None:
    """It mixes no channels across its groups, even where its kernel is one pixel."""
    model = Tiny()
    model.block.mix = nn.Conv1d(16, 16, 1, groups=4)
    model.block.join = nn.Conv1d(16, 16, 1)
    structure = inspect_model(model, img_size=16)
    assert structure.left_out["block.mix.weight"] == "convolution"
    assert "block.join" in {matrix.name for matrix in structure.counted}


def test_the_head_weight_counts_for_the_classifier_alone() -> None:
    once, twice = (explain_model(Tiny(), img_size=16, head_weight=w) for w in (1.0, 2.0))
    for row, other in zip(once, twice, strict=True):
        assert other.value == (2 * row.value if row.role == "head" else row.value), row.name
