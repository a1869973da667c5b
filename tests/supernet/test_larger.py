"""Networks of timm as supernets: what their slices compute, and what does not fit."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import timm
import torch
from larger import (
    PIT,
    PIT_SPACE,
    SPACE,
    VIT,
    keep,
    pooling_transformer,
    vision_transformer,
)
from torch import Tensor, nn

from tftas_optuna import Scorer, get_space, score_model
from tftas_optuna.errors import TftasError
from tftas_optuna.spaces import SearchSpace
from tftas_optuna.supernet.arranging import in_order

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return vision_transformer()


@pytest.fixture(scope="module")
def source(vit: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    return keep(vit, tmp_path_factory.mktemp("vit"), VIT)


@pytest.fixture(scope="module")
def pit() -> nn.Module:
    return pooling_transformer()


@pytest.fixture(scope="module")
def pit_source(pit: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    return keep(pit, tmp_path_factory.mktemp("pit"), PIT)


def logits(model: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(images)
    return out


def subnet(space: SearchSpace, source: str, **fields: object) -> nn.Module:
    arch = dataclasses.replace(space.largest(), **fields)
    return Scorer(space, supernet=source, device="cpu").subnet(arch)


@pytest.mark.parametrize("blocks", ["first", "even"])
@pytest.mark.parametrize("order", ["first", "even", "magnitude"])
def test_the_largest_slice_computes_what_the_network_does(
    vit: nn.Module, pit: nn.Module, source: str, pit_source: str, order: str, blocks: str
) -> None:
    options = f",order={order},blocks={blocks}"
    for space, model, name in ((SPACE, vit, source), (PIT_SPACE, pit, pit_source)):
        torch.testing.assert_close(
            logits(subnet(space, name + options)), logits(model), rtol=1e-6, atol=1e-5
        )


def test_relative_positions_are_zero_and_change_nothing(vit: nn.Module, source: str) -> None:
    plain = SPACE.supernet
    relative = dataclasses.replace(plain, relative_position=True, max_relative_position=3)
    space = dataclasses.replace(SPACE, supernet=relative)
    torch.testing.assert_close(logits(subnet(space, source)), logits(vit), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("order", ["first", "even", "magnitude"])
def test_fewer_heads_and_units_are_those_that_come_first(
    vit: nn.Module, source: str, order: str
) -> None:
    """The network without the others computes the same: nobody reads what they write."""
    silenced = copy.deepcopy(vit)
    for block in silenced.blocks:
        heads, units = block.attn.proj.weight.data.view(64, 4, 16), block.mlp.fc2.weight.data
        qkv = block.attn.qkv.weight.data.view(3, 4, 16, 64)
        norms = (heads**2).sum((0, 2)) + (qkv**2).sum((0, 2, 3))
        kept = {"first": [0, 1], "even": [0, 2], "magnitude": norms.argsort().tolist()[2:]}
        heads[:, [head for head in range(4) if head not in kept[order]]] = 0
        norms = (units**2).sum(0) + (block.mlp.fc1.weight.data**2).sum(1)
        kept = {"first": [*range(64)], "magnitude": norms.argsort().tolist()[128:]}
        kept["even"] = in_order("even", [torch.zeros(192)], 64).tolist()
        units[:, [unit for unit in range(192) if unit not in set(kept[order])]] = 0
    small = subnet(SPACE, f"{source},order={order}", num_heads=(2,) * 4, mlp_ratio=(1.0,) * 4)
    torch.testing.assert_close(logits(small), logits(silenced), rtol=1e-5, atol=1e-5)


def test_an_even_order_spreads_whatever_is_taken() -> None:
    order = in_order("even", [torch.zeros(384)], 384).tolist()
    assert sorted(order) == list(range(384))
    assert sorted(order[:192]) == list(range(0, 384, 2))
    for count in range(2, 385):
        taken = sorted(order[:count])
        gaps = [after - before for before, after in zip(taken, [*taken[1:], 384], strict=True)]
        assert max(gaps) < 4 * 384 / count


@pytest.mark.parametrize("order", ["first", "even", "magnitude"])
def test_the_residual_stream_has_one_order(vit: nn.Module, source: str, order: str) -> None:
    small = subnet(SPACE, f"{source},order={order}", embed_dim=32, num_heads=(4,) * 4)
    writers = {
        name: weight if weight.ndim > 1 and len(weight) == 64 else weight.T
        for name, weight in vit.named_parameters()
        if name.endswith(("qkv.weight", "fc1.weight", "fc2.weight", "attn.proj.weight"))
    }
    writers |= {name: getattr(vit, name)[0].T for name in ("cls_token", "pos_embed")}
    writers |= {"patch": vit.patch_embed.proj.weight, "head": vit.head.weight.T}
    norms = sum(weight.detach().flatten(1).square().sum(1) for weight in writers.values())
    channels = {
        "first": list(range(32)),
        "even": in_order("even", [torch.zeros(64)], 32).tolist(),
        "magnitude": norms.argsort(descending=True).tolist()[:32],
    }[order]
    for name, weight in small.named_parameters():
        whole = vit.get_parameter(name)
        if name in ("cls_token", "pos_embed", "head.weight"):
            assert torch.equal(weight, whole[..., channels])
        elif "norm" in name or name.startswith("patch_embed") or "proj.bias" in name:
            assert torch.equal(weight, whole[channels])


def test_a_shallower_candidate_takes_blocks_evenly_spaced(
    vit: nn.Module, pit: nn.Module, source: str, pit_source: str
) -> None:
    for blocks, taken in (("first", [0, 1]), ("even", [0, 3])):
        shallow = copy.deepcopy(vit)
        shallow.blocks = nn.Sequential(*(vit.blocks[i] for i in taken))
        small = subnet(
            SPACE, f"{source},blocks={blocks}", num_heads=(4,) * 2, mlp_ratio=(3.0,) * 2
        )
        torch.testing.assert_close(logits(small), logits(shallow), rtol=1e-5, atol=1e-5)
        shallow = copy.deepcopy(pit)
        first, second = shallow.transformers
        first.blocks = nn.Sequential(first.blocks[0], first.blocks[min(taken[1], 2)])
        second.blocks = second.blocks[:1]
        small = subnet(PIT_SPACE, f"{pit_source},blocks={blocks}", depth=(2, 1))
        torch.testing.assert_close(logits(small), logits(shallow), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("blocks", ["first", "even"])
@pytest.mark.parametrize("fidelity", ["exact", "collapsed"])
def test_scores_of_many_are_those_of_their_networks(
    source: str, pit_source: str, blocks: str, fidelity: str
) -> None:
    for space, name in ((SPACE, source), (PIT_SPACE, pit_source)):
        scorer = Scorer(space, supernet=f"{name},blocks={blocks}", fidelity=fidelity, device="cpu")
        rng = np.random.default_rng(0)
        archs = [space.sample(rng) for _ in range(12)]
        scores = scorer.batch(archs)
        assert scores == pytest.approx([scorer(arch) for arch in archs], rel=1e-5)
        if fidelity == "exact":
            alone = [score_model(scorer.subnet(arch)) for arch in archs]
            assert scores == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("family", ["vit", "pit"])
def test_images_of_another_size_and_colour_are_timms_business(
    family: str, request: pytest.FixtureRequest
) -> None:
    name = request.getfixturevalue("source" if family == "vit" else "pit_source")
    space = dataclasses.replace(SPACE if family == "vit" else PIT_SPACE, img_size=48, in_chans=1)
    images = torch.randn(2, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    small = Scorer(space, supernet=name, device="cpu").subnet(space.largest())
    if family == "vit":
        address = name.removeprefix("timm:")
        theirs = timm.create_model(address, pretrained=True, img_size=48, in_chans=1).eval()
        torch.testing.assert_close(logits(small, images), logits(theirs, images))
    assert logits(small, images).shape == (2, 5)


def test_the_space_around_a_network_fits_it(source: str, pit_source: str) -> None:
    for name in (source, pit_source):
        space = get_space(name)
        scorer = Scorer(space, supernet=f"{name},order=magnitude,blocks=even", device="cpu")
        assert len(scorer.batch([space.smallest(), space.largest()])) == 2


def test_what_does_not_fit_is_said_before_anything_else(source: str, pit_source: str) -> None:
    wide = dataclasses.replace(SPACE.supernet, embed_dim=80)
    deep = dataclasses.replace(SPACE.supernet, num_heads=(4,) * 5, mlp_ratio=(3.0,) * 5)
    free = dataclasses.replace(SPACE.supernet, head_dim=None)
    for space, name, fact in (
        (dataclasses.replace(SPACE, supernet=wide), source, "embed_dim of the supernet is 80"),
        (dataclasses.replace(SPACE, supernet=deep), source, "depth of the supernet is 5"),
        (dataclasses.replace(SPACE, supernet=free), source, "give the space head_dim: 16"),
        (dataclasses.replace(PIT_SPACE, base_dim=(8, 16)), pit_source, "base_dim of the supernet"),
        (dataclasses.replace(PIT_SPACE, stride=4), pit_source, "stride of the supernet is 4"),
        (PIT_SPACE, source, "the space is of family pit, the network autoformer"),
        (SPACE, f"{source},order=best", "known: first, even, magnitude"),
        (SPACE, f"{source},blocks=last", "known: first, even"),
        (SPACE, f"{source},depth=2", "'depth'; known: order, blocks"),
        (SPACE, "timm:vit_tinny_patch16_224", "timm has no network"),
        (SPACE, "timm:vit_base_patch16_siglip_224", "it has no class token"),
        (SPACE, "timm:", "names no network"),
    ):
        with pytest.raises(TftasError, match=fact):
            Scorer(space, supernet=name, device="cpu")
