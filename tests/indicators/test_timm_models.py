"""Scores of timm networks of every make, against the textbook and against each other."""

from __future__ import annotations

import math
import re

import pytest
import textbook_timm
import timm
import torch
from torch import nn

from tftas_optuna import TftasError, explain_model, score_model
from tftas_optuna.passes.networks import count_macs, inspect_model

# Small, and each of another make: fused and separate projections, class attention, cross
# attention, latent queries, convolutions as linear layers, windows, pooling, parallel blocks.
FEW = {
    "cait_xxs24_224": {"depth": 2},
    "coat_lite_tiny": {},
    "convit_tiny": {"depth": 2, "local_up_to_layer": 1},
    "deit_tiny_distilled_patch16_224": {"depth": 2},
    "edgenext_xx_small": {},
    "eva02_tiny_patch14_224": {"depth": 2},
    "mobilevitv2_050": {},
    "pit_ti_224": {},
    "pvt_v2_b0": {},
    "swiftformer_xs": {},
    "test_vit3": {},
    "vit_dpwee_patch16_reg1_gap_256": {"depth": 2},
    "xcit_nano_12_p16_224": {"depth": 2},
}


@pytest.mark.parametrize("name", FEW)
def test_agrees_with_the_textbook(name: str) -> None:
    case = textbook_timm.CASES[name]
    model = textbook_timm.build(name, **FEW[name])
    score = score_model(model, img_size=case.img_size)
    assert score == pytest.approx(textbook_timm.dss(model, case), rel=1e-4)


def test_separate_projections_score_like_fused_ones() -> None:
    fused = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5, depth=2)

    class Separate(nn.Module):
        def __init__(self, attention: nn.Module) -> None:
            super().__init__()
            self.num_heads, self.proj = attention.num_heads, attention.proj
            parts = zip(attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3), strict=True)
            for name, (weight, bias) in zip(("wq", "wk", "wv"), parts, strict=True):
                layer = nn.Linear(*weight.shape[::-1])
                layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
                self.add_module(name, layer)

        def forward(self, x: torch.Tensor, **_: object) -> torch.Tensor:
            q, k, v = (
                layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
                for layer in (self.wq, self.wk, self.wv)
            )
            x = nn.functional.scaled_dot_product_attention(q, k, v)
            return self.proj(x.transpose(1, 2).flatten(2))

    score = score_model(fused)
    for block in fused.blocks:
        block.attn = Separate(block.attn)
    rows = explain_model(fused)
    assert [row.name for row in rows[:2]] == ["blocks.0.attn.proj", "blocks.0.attn.wq+wk+wv"]
    assert math.fsum(row.value for row in rows) == pytest.approx(score, rel=1e-5)


def test_a_convolution_over_channels_scores_like_a_linear_layer() -> None:
    """LeViT comes in both forms; eval mode and weights away from zero, so that all is alive."""

    def filled(name: str) -> nn.Module:
        model = timm.create_model(name, num_classes=5)
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            shape = parameter.shape
            drawn = torch.rand(shape[0], math.prod(shape[1:]), generator=generator)
            scale = 0.02 if parameter.ndim > 1 else 0.3
            parameter.data = scale * drawn.reshape(shape)
        return model

    linear, conv = filled("levit_128s").double(), filled("levit_conv_128s").double()
    ones = torch.ones(1, 3, 224, 224, dtype=torch.float64)
    torch.testing.assert_close(linear.eval()(ones), conv.eval()(ones))
    assert score_model(conv) == pytest.approx(score_model(linear), rel=1e-6)


def test_what_never_sees_the_image_is_left_out() -> None:
    model = timm.create_model("vit_relpos_small_patch16_224", img_size=32, depth=1, num_classes=5)
    structure = inspect_model(model)
    roles = {matrix.name: matrix.role for matrix in structure.counted}
    assert roles == {
        "blocks.0.attn.qkv": "attention",
        "blocks.0.attn.proj": "attention",
        "blocks.0.mlp.fc1": "mlp",
        "blocks.0.mlp.fc2": "mlp",
        "head": "head",
    }
    assert structure.left_out["patch_embed.proj.weight"] == "convolution"
    blind = [name for name, why in structure.left_out.items() if why == "never sees the image"]
    assert blind and all("rel_pos.mlp" in name for name in blind)


def test_parts_of_one_matrix_are_told_apart() -> None:
    model = timm.create_model(
        "vit_dpwee_patch16_reg1_gap_256", img_size=32, num_classes=5, depth=1
    )
    rows = [row for row in explain_model(model) if row.name.startswith("blocks.0.")]
    assert [(row.name, row.role, row.shape) for row in rows] == [
        ("blocks.0.in_proj", "attention", (768, 256)),
        ("blocks.0.in_proj", "mlp", (1280, 256)),
        ("blocks.0.out_proj", "attention", (256, 256)),
        ("blocks.0.out_proj", "mlp", (256, 1280)),
    ]


def test_torchs_own_attention_counts() -> None:
    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch_embed = nn.Conv2d(3, 16, 8, 8)
            self.block = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
            self.head = nn.Linear(16, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
            return self.head(self.block(tokens)[:, 0])

    rows = explain_model(Tiny(), img_size=16)
    assert [(row.name, row.role, row.shape) for row in rows] == [
        ("block.self_attn.in_proj_weight", "attention", (48, 16)),
        ("block.self_attn.out_proj", "attention", (16, 16)),
        ("block.linear1", "mlp", (32, 16)),
        ("block.linear2", "mlp", (16, 32)),
        ("head", "head", (4, 16)),
    ]


@pytest.mark.parametrize(
    ("name", "macs"),
    [("vit_tiny_patch16_224", 1.26e9), ("cait_xxs24_224", 2.53e9)],
)
def test_macs_are_those_of_timms_tables(name: str, macs: float) -> None:
    assert count_macs(timm.create_model(name)) == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet18", {}, r"ResNet has no attention: .* DSS scores Vision Transformers"),
        ("poolformer_s12", {}, "MetaFormer has no attention"),
        ("test_vit", {"num_classes": 0}, "VisionTransformer has no classifier"),
        ("visformer_tiny", {}, "not finite, even in float64: it has no normalisation that works"),
    ],
)
def test_refusals_say_why(name: str, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        score_model(timm.create_model(name, **arguments))


def test_an_image_that_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(TftasError) as caught:
        score_model(timm.create_model("test_vit"), img_size=100)
    assert re.match(
        r"VisionTransformer does not take an image of 3 x 100 x 100: ", str(caught.value)
    )
    assert "\n" not in str(caught.value)


def test_scoring_leaves_a_network_as_it_was() -> None:
    """LeViT keeps biases of its last pass in eval mode; absolute ones must not stay behind."""
    model = timm.create_model("levit_128s", num_classes=5)
    torch.nn.init.normal_(model.stages[0].blocks[0].attn.attention_biases)
    model.eval()
    model.stages[1].train()
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.eval()(image)
        model.stages[1].train()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        try:
            score_model(model)
        except TftasError:
            pass
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        assert torch.equal(model.eval()(image), before)
