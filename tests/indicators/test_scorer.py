from __future__ import annotations

import numpy as np
import pytest
import textbook
import torch

from tftas_optuna import Scorer, TftasError, build_model, get_space, score_model
from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.spaces import AutoFormerSpace, published_architectures

PRESETS = ("autoformer-tiny", "autoformer-small", "autoformer-base")


@pytest.mark.slow
def test_two_routes_agree_at_full_size() -> None:
    space = get_space("autoformer-tiny")
    scorer = Scorer(space)
    rng = np.random.default_rng(0)
    for _ in range(2):
        arch = space.sample(rng)
        assert score_model(scorer.subnet(arch)) == pytest.approx(scorer(arch), rel=1e-4)


@pytest.mark.slow
def test_the_textbook_agrees_at_full_size() -> None:
    space = get_space("autoformer-tiny")
    scorer = Scorer(space)
    arch = space.sample(np.random.default_rng(0))
    slow = textbook.dss(arch, scorer.supernet.state_dict, 224)
    assert scorer(arch) == pytest.approx(slow, rel=2e-5)


def test_the_textbook_agrees_to_the_last_digits_in_float64(small_space: AutoFormerSpace) -> None:
    scorer = Scorer(small_space, img_size=32, num_classes=10, dtype=torch.float64)
    rng = np.random.default_rng(1)
    for _ in range(10):
        arch = small_space.sample(rng)
        slow = textbook.dss(arch, scorer.supernet.state_dict, 32)
        assert scorer(arch) == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_the_textbook_agrees_where_gradients_are_sketched(
    small_space: AutoFormerSpace, dtype: torch.dtype, tolerance: float
) -> None:
    """With more tokens than the range finder has vectors, layer by layer too."""
    scorer = Scorer(small_space, img_size=96, num_classes=10, dtype=dtype, device="cpu")
    arch = small_space.largest()
    slow = textbook.dss(arch, scorer.supernet.state_dict, 96)
    assert scorer(arch) == pytest.approx(slow, rel=tolerance)
    explained = sum(row.value for row in scorer.explain(arch))
    assert explained == pytest.approx(slow, rel=tolerance)


def test_one_seed_is_one_supernet(small_space: AutoFormerSpace) -> None:
    arch = small_space.largest()
    first = Scorer(small_space, img_size=32, seed=7)(arch)
    assert Scorer(small_space, img_size=32, seed=7)(arch) == first
    assert Scorer(small_space, img_size=32, seed=8)(arch) != pytest.approx(first, rel=1e-3)


def test_scoring_order_and_batches_change_nothing(small_space: AutoFormerSpace) -> None:
    rng = np.random.default_rng(0)
    archs = [small_space.sample(rng) for _ in range(6)]
    scorer = Scorer(small_space, img_size=32)
    one_by_one = [scorer(arch) for arch in archs]
    fresh = Scorer(small_space, img_size=32)
    assert fresh.batch([*reversed(archs), archs[0]]) == [*reversed(one_by_one), one_by_one[0]]
    assert fresh.batch([]) == []


def test_explain_sums_to_the_score(small_space: AutoFormerSpace) -> None:
    scorer = Scorer(small_space, img_size=32)
    arch = small_space.smallest()
    rows = scorer.explain(arch)
    assert [row.name for row in rows[:4]] == [
        f"blocks.0.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    ]
    assert len(rows) == 4 * arch.depth + 1
    assert sum(row.value for row in rows) == pytest.approx(scorer(arch))
    diversity = [row for row in rows if row.role == "attention"]
    assert all(row.value == row.weight_norm * row.grad_norm for row in diversity)


def test_head_weight_changes_the_head_alone(small_space: AutoFormerSpace) -> None:
    arch = small_space.smallest()
    once = Scorer(small_space, img_size=32).explain(arch)
    twice = Scorer(small_space, img_size=32, head_weight=2.0).explain(arch)
    assert twice[-1].value == pytest.approx(2 * once[-1].value)
    assert [row.value for row in twice[:-1]] == [row.value for row in once[:-1]]


def test_a_published_architecture_outside_its_space_scores() -> None:
    space = get_space("autoformer-tiny")
    arch = published_architectures()["autoformer-tiny"]
    assert arch not in space
    assert Scorer(space)(arch) > 0


def test_the_model_is_left_as_it_was(small_space: AutoFormerSpace) -> None:
    model = build_model(small_space.smallest(), img_size=32, num_classes=5).train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first = score_model(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert score_model(model.eval()) == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": 72}, "embed_dim is 72, the supernet holds at most 64"),
        ({"num_heads": (5, 1)}, "num_heads is 5, the supernet holds at most 4"),
        ({"mlp_ratio": (9.0, 1.0)}, "hidden width is 288, the supernet holds at most 256"),
        ({"head_dim": 32}, "head_dim is 32, the supernet has 16"),
        ({"max_relative_position": 2}, "max_relative_position is 2, the supernet has 3"),
    ],
)
def test_what_does_not_fit_the_supernet_is_refused(
    small_space: AutoFormerSpace, change: dict[str, object], message: str
) -> None:
    fields = {**small_space.smallest().to_dict(), **change}
    del fields["depth"], fields["family"]
    with pytest.raises(TftasError, match=message):
        Scorer(small_space, img_size=32)(AutoFormerArchitecture(**fields))


def test_unknown_names_are_refused(small_space: AutoFormerSpace) -> None:
    with pytest.raises(TftasError, match="indicator 'nope' does not exist; known: .*dss"):
        Scorer(small_space, indicator="nope")
    with pytest.raises(TftasError, match="'dss' has no fidelity 'nope'; it has: exact, collapsed"):
        Scorer(small_space, fidelity="nope")
    with pytest.raises(TftasError, match="device 'nope' is not a device"):
        Scorer(small_space, device="nope")
    with pytest.raises(TftasError, match="Linear has no attention"):
        score_model(torch.nn.Linear(2, 2))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
@pytest.mark.parametrize("fidelity", ["exact", "collapsed"])
@pytest.mark.parametrize("name", PRESETS)
def test_cuda_agrees_with_float64_on_the_cpu(name: str, fidelity: str) -> None:
    space = get_space(name)
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(6)]
    exact = Scorer(space, fidelity=fidelity, device="cpu", dtype=torch.float64).batch(archs)
    scorer = Scorer(space, fidelity=fidelity, device="cuda")
    assert scorer.batch_size > 1
    assert scorer.batch(archs) == pytest.approx(exact, rel=1e-4)
