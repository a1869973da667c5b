"""Dropout and stochastic depth: a rate of one leaves nothing of what it drops."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from tftas_optuna import build_model
from tftas_optuna.architecture import AutoFormerArchitecture, PiTArchitecture

AUTOFORMER = AutoFormerArchitecture(
    24, (1, 2), (2.0, 3.0), head_dim=8, patch_size=4, max_relative_position=2
)
PIT = PiTArchitecture(8, (1, 1), (1, 2), 2.0, patch_size=4, stride=2)
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def create(**rates: float) -> Any:
    """A network in training mode whose biases are not zero."""
    model = timm.create_model(
        "tftas_autoformer", arch=AUTOFORMER, img_size=16, num_classes=5, **rates
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    return model.train()


def tokens_into(module: torch.nn.Module, model: torch.nn.Module) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    with module.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        model(IMAGES)
    return seen[0]


@pytest.mark.parametrize("branch", ["drop_path1", "drop_path2"])
def test_stochastic_depth_drops_either_branch_of_a_block(branch: str) -> None:
    block = create(drop_path_rate=1.0).blocks[-1]
    tokens = torch.randn(2, 17, 24)
    torch.testing.assert_close(block(tokens), tokens)
    assert not torch.allclose(block.eval()(tokens), tokens)
    block.train()
    setattr(block, branch, torch.nn.Identity())
    assert not torch.allclose(block(tokens), tokens)


def test_stochastic_depth_drops_whole_images_and_makes_up_for_it() -> None:
    torch.manual_seed(0)
    block = create(drop_path_rate=0.5).blocks[-1]
    tokens = torch.randn(1, 17, 24)
    kept = block.attn(block.norm1(tokens))[0]
    block.drop_path2 = torch.nn.Identity()
    block.mlp = torch.nn.Module()
    block.mlp.forward = torch.zeros_like  # type: ignore[assignment]
    drawn = block(tokens.expand(64, -1, -1)) - tokens
    dropped = [bool((image == 0).all()) for image in drawn]
    assert 16 < sum(dropped) < 48
    for image in drawn[[not gone for gone in dropped]]:
        torch.testing.assert_close(image, 2 * kept, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arch", [AUTOFORMER, PIT])
def test_build_model_passes_the_rate_on(arch: Any) -> None:
    torch.manual_seed(0)
    images = IMAGES.repeat(16, 1, 1, 1)
    for rate, same in ((0.0, True), (0.5, False)):
        model = build_model(arch, img_size=16, num_classes=5, drop_path_rate=rate).train()
        assert torch.equal(model(images), model(images)) == same


def test_dropout_of_attention_outputs_and_of_the_mlp() -> None:
    model = create(proj_drop_rate=1.0)
    block, tokens = model.blocks[0], torch.randn(2, 17, 24)
    assert not block.attn(tokens).any() and not block.mlp(tokens).any()
    model.eval()
    assert block.attn(tokens).any() and block.mlp(tokens).any()


def test_dropout_of_the_attention() -> None:
    attn, tokens = create(attn_drop_rate=1.0).blocks[0].attn, torch.randn(2, 17, 24)
    torch.testing.assert_close(attn(tokens), attn.proj.bias.expand(2, 17, 24))
    assert not torch.allclose(attn.eval()(tokens), attn.proj.bias.expand(2, 17, 24))


def test_dropout_before_the_first_block_and_before_the_classifier() -> None:
    model = create(pos_drop_rate=1.0)
    assert not tokens_into(model.blocks[0], model).any()
    model = create(drop_rate=1.0)
    torch.testing.assert_close(model(IMAGES), model.head.bias.expand(2, 5))
    assert not torch.allclose(model.eval()(IMAGES), model.head.bias.expand(2, 5))
