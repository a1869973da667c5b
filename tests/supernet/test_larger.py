"""Networks of timm as supernets: what their slices compute, and what does not fit."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from tftas_optuna import AutoFormerSpace, PiTSpace, Scorer, score_model
from tftas_optuna.spaces import SearchSpace
from tftas_optuna.supernet.arranging import in_order

VIT = {"embed_dim": 64, "depth": 4, "num_heads": 4, "patch_size": 8, "mlp_ratio": 3.0}
PIT = {"base_dims": [8, 8], "depth": [3, 2], "heads": [2, 4], "patch_size": 8, "stride": 8}
SIZES = {"img_size": 32, "num_classes": 5}


def randomise(model: nn.Module) -> nn.Module:
    """Draw every weight, so that none is zero or one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            weight.normal_(around, 0.2, generator=generator)
    return model.eval()


def keep(model: nn.Module, folder: Path, arguments: dict[str, object]) -> str:
    save_for_hf(model, folder, model_args={**arguments, "img_size": 32})
    return f"timm:local-dir:{folder}"


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return randomise(timm.create_model("vit_tiny_patch16_224", **VIT, **SIZES))


@pytest.fixture(scope="module")
def source(vit: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    return keep(vit, tmp_path_factory.mktemp("vit"), VIT)


@pytest.fixture(scope="module")
def pit() -> nn.Module:
    return randomise(timm.create_model("pit_ti_224", **PIT, **SIZES))


@pytest.fixture(scope="module")
def pit_source(pit: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    return keep(pit, tmp_path_factory.mktemp("pit"), PIT)


SPACE = AutoFormerSpace.from_dict(
    {
        "name": "around",
        "family": "autoformer",
        **SIZES,
        "patch_size": 8,
        "head_dim": 16,
        "relative_position": False,
        "global_pool": "token",
        "layer_norm_eps": 1e-6,
        "embed_dim": [32, 64],
        "depth": [2, 3, 4],
        "num_heads": [1, 2, 4],
        "mlp_ratio": [1, 3],
    }
)
PIT_SPACE = PiTSpace.from_dict(
    {
        "name": "pits",
        "family": "pit",
        **SIZES,
        "patch_size": 8,
        "stride": 8,
        "base_dim": [8],
        "depth": [[1, 2, 3], [1, 2]],
        "num_heads": [[1, 2], [2, 4]],
        "mlp_ratio": [1, 4],
    }
)
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


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
