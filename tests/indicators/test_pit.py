from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from tftas_optuna import Scorer, TftasError, get_space, score_model
from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.spaces import AutoFormerSpace, PiTSpace
from tftas_optuna.supernet.pit import PiTSupernet

SPACE = PiTSpace(
    name="pools",
    base_dim=(4, 8),
    depth=((1, 2), (1, 2), (1, 2)),
    num_heads=(1, 2, 4),
    mlp_ratio=(2.0, 3.5),
    patch_size=8,
    stride=4,
    img_size=48,
    in_chans=2,
    num_classes=10,
)


def test_two_routes_agree() -> None:
    scorer = Scorer(SPACE, dtype=torch.float64)
    rng = np.random.default_rng(0)
    for _ in range(5):
        arch = SPACE.sample(rng)
        assert score_model(scorer.subnet(arch)) == pytest.approx(scorer(arch), rel=1e-9)


def test_float32_loses_few_digits() -> None:
    space = get_space("pit-tiny")
    arch = space.sample(np.random.default_rng(3))
    exact = Scorer(space, dtype=torch.float64)(arch)
    assert Scorer(space)(arch) == pytest.approx(exact, rel=1e-5)


def test_no_convolution_is_left_to_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA it takes those whose channels come last, and rounds their factors to TF32."""
    last = []

    def watch(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        last.append(x.is_contiguous(memory_format=torch.channels_last))
        return torch.conv2d(x, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "conv2d", watch)
    Scorer(SPACE)(SPACE.largest())
    assert last and not any(last)


@pytest.mark.parametrize("img_size", [28, 32, 48, 60])
def test_collapsed_is_exact_where_only_padding_tells_patches_apart(img_size: int) -> None:
    """Grids of odd and even sides, whose borders see padding on one side or on both."""
    arch = PiTArchitecture(4, (2, 1, 2, 1), (1, 2, 2, 4), 2.0, patch_size=8, stride=4)
    sizes: dict[str, Any] = {"img_size": img_size, "num_classes": 7}
    weights = PiTSupernet(arch, **sizes).state_dict
    weights["pos_embed"] = torch.full_like(weights["pos_embed"], 0.01)
    supernet = PiTSupernet(arch, state_dict=weights, dtype=torch.float64, **sizes)
    both = [supernet.run([arch], fidelity=name) for name in ("exact", "collapsed")]
    traced = [list(traces) for traces in both]
    assert all(trace.x.shape[2] <= 10 for trace in traced[1])
    exact, collapsed = (
        {
            name: delta[0].T @ x[0]
            for trace in traces
            for name, delta, x in zip(trace.names, trace.delta, trace.x, strict=True)
        }
        for traces in traced
    )
    assert collapsed.keys() == exact.keys()
    for name, gradient in collapsed.items():
        torch.testing.assert_close(gradient, exact[name], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_collapsed_is_near_exact_and_ranks_alike() -> None:
    space = get_space("pit-tiny")
    rng = np.random.default_rng(1)
    archs = [space.sample(rng) for _ in range(12)]
    exact = np.array(Scorer(space).batch(archs))
    collapsed = np.array(Scorer(space, fidelity="collapsed").batch(archs))
    offset = collapsed / exact - 1
    assert abs(offset.mean()) < 2e-3 and offset.std() < 1e-3
    assert kendall_tau(list(exact), list(collapsed)) > 0.95


def test_a_slice_is_distributed_as_the_networks_own_weights() -> None:
    """Uniform within 1 / sqrt(fan-in), as timm draws the weights of a network built alone."""
    scorer = Scorer(SPACE)
    for arch in (SPACE.smallest(), SPACE.largest()):
        model = scorer.subnet(arch)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear):
                bound = module.in_features**-0.5
                largest = module.weight.abs().max().item()
                assert 0.8 * bound < largest <= bound * 1.000001, name
                assert module.bias.abs().max() <= bound * 1.000001


def test_all_candidates_share_their_draws() -> None:
    scorer = Scorer(SPACE)
    small, large = scorer.subnet(SPACE.smallest()), scorer.subnet(SPACE.largest())
    name = "transformers.0.blocks.0.attn.qkv.weight"
    ours, whole = small.get_parameter(name), large.get_parameter(name)
    scale = (whole.shape[1] / ours.shape[1]) ** 0.5
    for part, full in zip(ours.chunk(3), whole.chunk(3), strict=True):
        torch.testing.assert_close(part, scale * full[: len(part), : part.shape[1]])


@pytest.mark.parametrize("fidelity", ["exact", "collapsed"])
def test_mixed_and_repeated_candidates_score_as_alone(fidelity: str) -> None:
    rng = np.random.default_rng(2)
    archs = [SPACE.sample(rng) for _ in range(20)]
    archs.append(archs[0])
    scorer = Scorer(SPACE, fidelity=fidelity, dtype=torch.float64)
    alone = [scorer(arch) for arch in archs]
    scorer._panel._engines[0][0].batch_size = 21
    assert scorer.batch(archs) == pytest.approx(alone, rel=1e-9)


def test_explanations_add_up() -> None:
    arch = SPACE.sample(np.random.default_rng(2))
    for fidelity in ("exact", "collapsed"):
        scorer = Scorer(SPACE, fidelity=fidelity)
        rows = scorer.explain(arch)
        assert sum(row.value for row in rows) == pytest.approx(scorer(arch), rel=1e-6)
        assert rows[0].name == "transformers.0.blocks.0.attn.qkv" and rows[-1].role == "head"
    assert Scorer(SPACE, seed=1)(arch) != pytest.approx(Scorer(SPACE)(arch), rel=1e-4)


def test_weights_are_kept_once_whatever_the_fidelities(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw = PiTSupernet.draw

    def counted(self: Any, name: str, weight: Any, generator: Any) -> Any:
        drawn.append(name)
        return draw(self, name, weight, generator)

    monkeypatch.setattr(PiTSupernet, "draw", counted)
    exact = Scorer(SPACE, device="cpu")
    arch = SPACE.largest()
    exact(arch), exact.sharing("dss", "collapsed")(arch)
    matrices = [name for name in drawn if "blocks" in name]
    assert matrices and len(matrices) == len(set(matrices))
    # Signs are drawn, once, when somebody asks for them.
    assert "state_dict" not in vars(exact.supernet)
    drawn.clear()
    exact.subnet(arch), exact.subnet(SPACE.smallest())
    assert len(drawn) == len(exact.supernet.state_dict)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_dim": 9}, r"width is \[36, 36, 36\], the supernet holds at most \[32, 32, 32\]"),
        ({"depth": (1, 3, 1)}, r"depth is \[1, 3, 1\], the supernet holds at most \[2, 2, 2\]"),
        ({"mlp_ratio": 4.0}, "hidden width is"),
        ({"stride": 8}, "stride is 8, the supernet has 4"),
        ({"depth": (1,), "num_heads": (1,)}, "depth lists 1 stages, the supernet has 3"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        Scorer(SPACE)(dataclasses.replace(SPACE.largest(), **change))


@pytest.mark.parametrize("relative_position", [True, False])
def test_heads_that_share_the_width_score_alike_on_both_routes(relative_position: bool) -> None:
    space = AutoFormerSpace.from_dict(
        {
            "name": "split",
            "family": "autoformer",
            "embed_dim": [12, 24],
            "depth": [2, 3],
            "num_heads": [1, 2, 3],
            "mlp_ratio": [2, 3],
            "head_dim": None,
            "patch_size": 8,
            "relative_position": relative_position,
            "img_size": 32,
            "in_chans": 1,
            "num_classes": 5,
        }
    )
    scorer = Scorer(space, dtype=torch.float64)
    rng = np.random.default_rng(0)
    for _ in range(5):
        arch = space.sample(rng)
        assert score_model(scorer.subnet(arch)) == pytest.approx(scorer(arch), rel=1e-9)
