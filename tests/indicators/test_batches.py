from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tftas_optuna import Scorer, TftasError, get_space
from tftas_optuna.architecture import AutoFormerArchitecture
from tftas_optuna.indicators import layers as engine
from tftas_optuna.spaces import AutoFormerSpace

FIDELITIES = pytest.mark.parametrize("fidelity", ["exact", "collapsed"])


def several_at_once(scorer: Scorer) -> Scorer:
    """On a CPU exact scores are computed one by one; here they are not."""
    for each in itertools.chain.from_iterable(scorer._panel._engines):
        each.batch_size = 5
    return scorer


@st.composite
def spaces(draw: st.DrawFn) -> AutoFormerSpace:
    head_dim = draw(st.sampled_from([None, 4, 8]))
    widths = st.integers(3, 24) if head_dim is not None else st.sampled_from([6, 12, 18, 24])
    depth = draw(st.integers(1, 3))
    return AutoFormerSpace(
        name="drawn",
        embed_dim=tuple(draw(st.sets(widths, min_size=1, max_size=3))),
        depth=tuple(range(1, depth + 1)),
        num_heads=tuple(draw(st.sets(st.integers(1, 3), min_size=1))),
        mlp_ratio=tuple(draw(st.sets(st.sampled_from([0.5, 1.0, 2.3, 4.0]), min_size=1))),
        supernet=AutoFormerArchitecture(
            24,
            (3,) * depth,
            (4.0,) * depth,
            head_dim=head_dim,
            patch_size=8,
            relative_position=draw(st.booleans()),
            max_relative_position=draw(st.integers(1, 4)),
            abs_pos=draw(st.booleans()),
            global_pool=draw(st.sampled_from(["avg", "token"])),
        ),
    )


@FIDELITIES
@settings(max_examples=25, deadline=None)
@given(space=spaces(), seed=st.integers(0, 1000), count=st.integers(1, 9))
def test_mixed_and_repeated_candidates_score_as_alone(
    fidelity: str, space: AutoFormerSpace, seed: int, count: int
) -> None:
    scorer = Scorer(space, fidelity=fidelity, img_size=24, num_classes=3, device="cpu")
    rng = np.random.default_rng(seed)
    archs = [space.sample(rng) for _ in range(count)]
    archs.append(archs[0])
    alone = [scorer(arch) for arch in archs]
    assert several_at_once(scorer).batch(archs) == pytest.approx(alone, rel=1e-5)


@FIDELITIES
def test_a_real_batch_scores_as_alone(fidelity: str) -> None:
    space = get_space("autoformer-tiny")
    scorer = Scorer(space, fidelity=fidelity)
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(4 if fidelity == "exact" else 12)]
    alone = [scorer(arch) for arch in archs]
    if fidelity == "exact":
        several_at_once(scorer)
    assert scorer.batch(archs) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(("name", "count"), [("autoformer-tiny", 8), ("autoformer-small", 3)])
def test_collapsed_is_near_exact_and_ranks_alike(name: str, count: int) -> None:
    space = get_space(name)
    rng = np.random.default_rng(1)
    archs = [space.sample(rng) for _ in range(count)]
    exact = np.array(Scorer(space).batch(archs))
    collapsed = np.array(Scorer(space, fidelity="collapsed").batch(archs))
    offset = collapsed / exact - 1
    assert 0 < offset.mean() < 3e-3 and offset.std() < 3e-4
    assert (np.argsort(exact) == np.argsort(collapsed)).all()


def test_collapsed_is_exact_where_patches_are_equal(small_space: AutoFormerSpace) -> None:
    """Without positions every patch token is the same, and nothing is approximated."""
    fields = {**small_space.to_dict()}
    fields["supernet"] = {**fields["supernet"], "abs_pos": False, "relative_position": False}
    space = AutoFormerSpace.from_dict(fields)
    arch = space.largest()
    kwargs: dict[str, Any] = dict(img_size=32, num_classes=7, dtype=torch.float64)
    exact = Scorer(space, **kwargs).explain(arch)
    collapsed = Scorer(space, fidelity="collapsed", **kwargs).explain(arch)
    for ours, theirs in zip(collapsed, exact, strict=True):
        # Signs of the saliency are the patches': right where their part is the larger one.
        tolerance = 1e-9 if ours.role != "mlp" else 1e-2
        assert ours.value == pytest.approx(theirs.value, rel=tolerance), ours.name


def test_out_of_memory_halves_the_batch_and_says_so(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    archs = [small_space.sample(rng) for _ in range(16)]
    scorer = Scorer(small_space, fidelity="collapsed", img_size=32)
    expected = scorer.batch(archs)
    traces = scorer.supernet.traces

    def scarce(archs: Any, fidelity: str) -> Any:
        if len(archs) > 2:
            raise torch.OutOfMemoryError("no more")
        return traces(archs, fidelity)

    monkeypatch.setattr(scorer.supernet, "traces", scarce)
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        assert scorer.batch(archs) == pytest.approx(expected, rel=1e-6)
    assert scorer.batch_size <= 2
    assert "out of memory with" in caplog.text and "going on with 2" in caplog.text
    monkeypatch.setattr(
        scorer.supernet, "traces", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError())
    )
    with pytest.raises(torch.OutOfMemoryError):
        scorer.batch(archs[:1])


def test_a_rank_that_is_too_low_is_raised(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = small_space.largest()
    whole = Scorer(small_space, img_size=64, dtype=torch.float64)(arch)
    monkeypatch.setattr(engine, "_RANK", 1)
    scorer = Scorer(small_space, img_size=64)
    assert scorer(arch) == pytest.approx(whole, rel=2e-5)


def test_seeds_are_averaged(small_space: AutoFormerSpace) -> None:
    arch = small_space.largest()
    apart = [Scorer(small_space, img_size=32, seed=seed)(arch) for seed in (4, 5, 6)]
    together = Scorer(small_space, img_size=32, seed=4, n_seeds=3)
    assert together(arch) == pytest.approx(sum(apart) / 3)
    assert together.by_seed([arch]) == [tuple(apart)]
    with pytest.raises(TftasError, match="n_seeds is 0"):
        Scorer(small_space, n_seeds=0)


def test_a_faster_precision_is_restored_afterwards(small_space: AutoFormerSpace) -> None:
    arch = small_space.largest()
    exact = Scorer(small_space, img_size=32)(arch)
    medium = Scorer(small_space, img_size=32, matmul_precision="medium")
    assert medium(arch) == pytest.approx(exact, rel=2e-2)
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(TftasError, match="matmul_precision is 'low'"):
        Scorer(small_space, matmul_precision="low")


def test_a_score_that_overflows_is_an_error(small_space: AutoFormerSpace) -> None:
    scorer = Scorer(small_space, img_size=32)
    scorer.supernet._weights.linears["mlp.fc1"].layers[0]._centred.fill_(3e38)
    with pytest.raises(TftasError, match="not finite in torch.float32"):
        scorer(small_space.largest())


@pytest.mark.slow
@FIDELITIES
def test_memory_does_not_grow(small_space: AutoFormerSpace, fidelity: str) -> None:
    resource = pytest.importorskip("resource")
    scorer = Scorer(small_space, img_size=32, fidelity=fidelity)
    rng = np.random.default_rng(0)

    def peak() -> int:
        scorer.batch([small_space.sample(rng) for _ in range(200)])
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

    first = peak()
    for _ in range(3):
        last = peak()
    assert last - first < 50_000  # kilobytes


@FIDELITIES
def test_candidates_of_several_widths_in_one_pass_score_as_alone(
    small_space: AutoFormerSpace, fidelity: str
) -> None:
    rng = np.random.default_rng(0)
    archs = [small_space.sample(rng) for _ in range(12)]
    assert len({arch.embed_dim for arch in archs}) > 1
    scorer = Scorer(small_space, fidelity=fidelity, img_size=32, dtype=torch.float64)
    assert len(scorer.supernet.groups(archs)) == 1
    weight, bias = scorer.supernet._weights.norm
    weight.add_(torch.linspace(0, 1, len(weight))), bias.add_(torch.linspace(0, 1, len(bias)))
    scorer.supernet._weights = scorer.supernet._weights._replace(plain_norms=False)
    alone = [scorer(arch) for arch in archs]
    for engine_ in itertools.chain.from_iterable(scorer._panel._engines):
        engine_.batch_size = 12
    assert scorer.batch(archs) == pytest.approx(alone, rel=1e-9)


def test_many_candidates_run_with_those_of_their_width(small_space: AutoFormerSpace) -> None:
    """Narrow ones would waste more than reading the weights once saves."""
    rng = np.random.default_rng(0)
    archs = [small_space.sample(rng) for _ in range(100)]
    supernet = Scorer(small_space, img_size=32).supernet
    for group in supernet.groups(archs):
        assert len({archs[i].embed_dim for i in group}) == 1
    # A GPU computes beside that, while the program prepares the next operation.
    (together,) = supernet.groups(archs, "cuda")
    depths = [archs[i].depth for i in together]
    assert depths == sorted(depths, reverse=True) and sorted(together) == [*range(100)]
