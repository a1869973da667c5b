"""Every indicator on timm's networks: against its definition, and on makes of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from menu_cases import NAMES, by_definition
from torch import nn

from tftas_optuna import TftasError, explain_model, score_model
from tftas_optuna.indicators import Images, Network, Weight
from tftas_optuna.metrics import get_indicator

SIZE, CLASSES, N_IMAGES = 32, 7, 3


def vit() -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=SIZE, patch_size=8, depth=2, num_classes=CLASSES
    )


def swin() -> nn.Module:
    """Tokens in a plane, in shifted windows, merged once."""
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=SIZE,
        window_size=4,
        embed_dim=24,
        depths=(2, 1),
        num_heads=(2, 4),
        num_classes=CLASSES,
    )


MAKES: list[Callable[[], nn.Module]] = [vit, swin]


def drawn(batches: int, size: int = SIZE) -> Images:
    generator = torch.Generator().manual_seed(5)
    return Images(
        tuple(
            (
                torch.randn(N_IMAGES, 3, size, size, generator=generator),
                torch.randint(CLASSES, (N_IMAGES,), generator=generator),
            )
            for _ in range(batches)
        )
    )


def expected(name: str, model: nn.Module, images: Images) -> float:
    seen = [torch.cat(each) for each in zip(*images.batches, strict=True)]
    return by_definition(name, model, seen[0], seen[1], seed=4)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_that_of_the_textbook(name: str, make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    images = drawn(max(get_indicator(name).batches, 1))
    found = score_model(model, indicator=name, images=images, seed=4)
    assert found == pytest.approx(expected(name, model, images), rel=1e-3, abs=0)
    exact = model.double()
    found = score_model(exact, indicator=name, images=images, seed=4)
    assert found == pytest.approx(expected(name, exact, images), rel=1e-6, abs=0)


# Small, and each with something of its own.
SMALL = {"img_size": SIZE, "patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 2}
OWN: dict[str, tuple[dict[str, Any], list[str]]] = {
    # Layers whose weights are passed by name.
    "beit_base_patch16_224": (SMALL, ["meco"]),
    # Position biases with an activation of their own.
    "vit_relpos_small_patch16_224": (SMALL, ["fisher", "naswot", "linear_regions"]),
    # Heads mixed by layers of their own, class attention.
    "cait_xxs24_224": (SMALL, ["fisher", "expressivity", "ffn_capacity", "linear_regions"]),
    # Tokens widened by a layer beside the MLP.
    "hiera_tiny_224": (
        {"img_size": (SIZE, SIZE), "mask_unit_size": (2, 2), "embed_dim": 24, "num_heads": 1}
        | {"stages": (1, 2), "q_pool": 1},
        ["expressivity", "ffn_capacity"],
    ),
    # Convolutions with an activation beside the MLP.
    "xcit_nano_12_p16_224": (
        {k: v for k, v in SMALL.items() if k != "patch_size"},
        ["fisher", "linear_regions", "naswot"],
    ),
}


@pytest.mark.parametrize(
    ("make", "name"), [(make, n) for make, (_, ns) in OWN.items() for n in ns]
)
def test_what_a_make_has_of_its_own_is_told_apart(make: str, name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(make, num_classes=CLASSES, **OWN[make][0]).double()
    found = score_model(model, indicator=name, images=drawn(1), img_size=SIZE, seed=4)
    if make.startswith("beit"):
        for block in model.blocks:
            block.attn.qkv_bias_separate = True  # For the textbook's hooks; it is zero.
    assert found == pytest.approx(expected(name, model, drawn(1)), rel=1e-6, abs=0)


def test_parts_of_one_layer_have_steadiness_of_their_own() -> None:
    """In parallel blocks, attention and MLP lie in one matrix, and add a term each."""
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_dpwee_patch16_reg1_gap_256",
        img_size=SIZE,
        depth=2,
        embed_dim=48,
        num_heads=2,
        num_classes=CLASSES,
    ).double()
    rows = explain_model(model, indicator="zico", images=drawn(2))
    parts: dict[str, list[float]] = {}
    for row in rows:
        parts.setdefault(row.name, []).append(math.exp(row.value))
    assert len(parts["blocks.0.in_proj"]) == len(parts["blocks.1.out_proj"]) == 2
    whole = math.fsum(math.log(math.fsum(terms)) for terms in parts.values())
    assert whole == pytest.approx(expected("zico", model, drawn(2)), rel=1e-6)


def test_queries_of_fewer_tokens_are_outputs_of_their_own() -> None:
    model = timm.create_model("cait_xxs24_224", num_classes=CLASSES, **SMALL)
    rows = [row.name for row in explain_model(model, indicator="meco", images=drawn(1))]
    assert rows.count("blocks.0.attn.qkv") == 1
    assert rows.count("blocks_token_only.0.attn.q+k+v") == 2


def test_padding_correlates_with_nothing() -> None:
    """Windows are filled up with zeros, of which layers make rows of one value."""
    outputs = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([outputs, torch.zeros(3, 64), torch.ones(1, 64)])
    weight = Weight("qkv", "attention", (64, 64), "")
    values = []
    for rows in (outputs, padded, padded[5:]):
        tally = get_indicator("meco").tally(Network([weight], 1))
        tally.output(weight, rows)
        values.append(tally.value())
    assert values[0] == values[1] > 0 == values[2]


def test_blocks_of_two_streams_are_refused_where_blocks_are_looked_at() -> None:
    model = timm.create_model("tnt_s_patch16_224", img_size=SIZE, depth=1, num_classes=CLASSES)
    for name in ("expressivity", "trainability"):
        with pytest.raises(TftasError, match=r"block blocks\.0 gives a tuple, not one tensor of"):
            score_model(model, indicator=name, images=drawn(1), img_size=SIZE)
    assert score_model(model, indicator="naswot", images=drawn(1), img_size=SIZE) > 0


def test_images_that_are_alike_are_the_worst_case_and_no_best() -> None:
    """The smallest eigenvalue is then rounding, and might be below zero."""
    ((images, labels),) = drawn(1).batches
    same = Images(((images[:1].expand_as(images), labels),))
    torch.manual_seed(0)
    model = vit()
    worst = score_model(model, indicator="ntk_cond", images=same)
    assert worst > 1e10 > score_model(model, indicator="ntk_cond", images=drawn(1))


def test_a_classifier_of_zeros_has_no_jacobian() -> None:
    model = vit()
    nn.init.zeros_(model.head.weight)
    with pytest.raises(TftasError, match="indicator 'jacob_cov' gives nan, which is not a finite"):
        score_model(model, indicator="jacob_cov", images=drawn(1))


@pytest.mark.parametrize("name", NAMES)
def test_scoring_leaves_a_network_as_it_was(name: str) -> None:
    model = swin().train()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    score_model(model, indicator=name, images=drawn(4))
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in model.modules()]
    assert not any(hooks)


def test_a_fusion_is_no_number_of_one_network() -> None:
    with pytest.raises(
        TftasError, match="'az_nas' is computed for a candidate .* score its parts: ex"
    ):
        score_model(vit(), indicator="az_nas")
