"""Passes of fixed shape, recorded once, score as passes of the candidates' own shapes."""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from tftas_optuna import get_space
from tftas_optuna.architecture import Architecture, AutoFormerArchitecture
from tftas_optuna.families import get_family
from tftas_optuna.indicators.layers import LayerEngine
from tftas_optuna.metrics import get_indicator
from tftas_optuna.spaces import AutoFormerSpace, PiTSpace, SearchSpace, space_names
from tftas_optuna.supernet import GraphReplay, LinearTrace, PlainWeights, Supernet
from tftas_optuna.supernet.linear import LinearStack
from tftas_optuna.supernet.replay import PlainReplay

INDICATORS = [get_indicator(name) for name in ("dss", "synflow", "auto_prox_a")]
FIDELITIES = pytest.mark.parametrize("fidelity", ["exact", "collapsed"])


@st.composite
def autoformers(draw: st.DrawFn) -> AutoFormerSpace:
    depth = draw(st.integers(1, 4))
    return AutoFormerSpace(
        name="drawn",
        embed_dim=tuple(draw(st.sets(st.integers(3, 24), min_size=1, max_size=3))),
        depth=tuple(range(1, depth + 1)),
        num_heads=tuple(draw(st.sets(st.integers(1, 3), min_size=1))),
        mlp_ratio=tuple(draw(st.sets(st.sampled_from([0.5, 1.0, 2.3, 4.0]), min_size=1))),
        img_size=24,
        num_classes=3,
        supernet=AutoFormerArchitecture(
            24,
            (3,) * depth,
            (4.0,) * depth,
            head_dim=draw(st.sampled_from([4, 8])),
            patch_size=8,
            relative_position=draw(st.booleans()),
            max_relative_position=draw(st.integers(1, 4)),
            abs_pos=draw(st.booleans()),
            global_pool=draw(st.sampled_from(["avg", "token"])),
        ),
    )


@st.composite
def pits(draw: st.DrawFn) -> PiTSpace:
    stages = draw(st.integers(1, 3))
    depths = st.sets(st.integers(1, 3), min_size=1, max_size=2)
    return PiTSpace(
        name="drawn",
        base_dim=tuple(draw(st.sets(st.sampled_from([3, 4, 8]), min_size=1, max_size=2))),
        depth=tuple(tuple(draw(depths)) for _ in range(stages)),
        num_heads=tuple(draw(st.sets(st.sampled_from([1, 2, 4]), min_size=1))),
        mlp_ratio=tuple(draw(st.sets(st.sampled_from([1.0, 2.3, 3.5]), min_size=1))),
        patch_size=8,
        stride=draw(st.sampled_from([4, 8])),
        img_size=draw(st.sampled_from([28, 32])),
        num_classes=3,
    )


def supernet_of(
    space: SearchSpace, *, trained: bool = False, dtype: torch.dtype = torch.float64, **sizes: Any
) -> Supernet:
    """Make the supernet of a space: drawn, or as training leaves it, with nothing at 0 or 1."""
    make = get_family(space.family).supernet
    sizes = {"img_size": space.img_size, "num_classes": space.num_classes, **sizes}
    sizes |= {"in_chans": space.in_chans, "dtype": dtype}
    supernet = make(space.supernet, **sizes)
    if not trained:
        return supernet
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: weight + 0.05 * torch.randn(weight.shape, generator=generator)
        for name, weight in supernet.state_dict.items()
    }
    return make(space.supernet, state_dict=weights, **sizes)


def own_shapes(supernet: Supernet, fidelity: str) -> LayerEngine:
    """Score one candidate at a time, in tensors of its size."""
    return LayerEngine(supernet, INDICATORS, fidelity=fidelity, batch_size=1)


def fixed_shapes(
    supernet: Supernet,
    fidelity: str,
    *,
    batch_size: int = 8,
    replay: Callable[..., Any] = PlainReplay,
) -> LayerEngine:
    return LayerEngine(
        supernet, INDICATORS, fidelity=fidelity, batch_size=batch_size, replay=replay
    )


def sample(space: SearchSpace, count: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


def close(rows: Sequence[Sequence[float]], rel: float) -> Any:
    return [pytest.approx(row, rel=rel) for row in rows]


class Watched(PlainReplay):
    """Keeps how many candidates each pass was recorded for."""

    made: list[int]

    def __init__(self, run: Any, sizes: torch.Tensor, *rest: Any) -> None:
        self.made.append(len(sizes))
        super().__init__(run, sizes, *rest)


@pytest.fixture
def watched() -> type[Watched]:
    return type("Watched", (Watched,), {"made": []})


class Recorded:
    """Repeats the operations of one run on other sizes, as a CUDA graph does.

    What a pass decides in Python, by the sizes of the candidates that it was recorded with, stays
    as it was then.
    """

    def __init__(self, run: Any, sizes: torch.Tensor, *_: Any) -> None:
        self._traces: list[LinearTrace] = []

        def tensors(sizes: torch.Tensor) -> list[torch.Tensor]:
            self._traces = run(sizes)
            return [tensor for trace in self._traces for tensor in (trace.x, trace.delta)]

        self._operations = make_fx(tensors)(sizes)

    def __call__(self, sizes: torch.Tensor) -> list[LinearTrace]:
        tensors = iter(self._operations(sizes))
        return [trace._replace(x=next(tensors), delta=next(tensors)) for trace in self._traces]


# Of small sizes, with candidates of several depths, widths, heads and hidden widths.
SMALL = (
    AutoFormerSpace(
        name="small",
        embed_dim=(8, 12),
        depth=(1, 2, 3),
        num_heads=(1, 2),
        mlp_ratio=(1.5, 3.0),
        img_size=24,
        num_classes=5,
        supernet=AutoFormerArchitecture(
            16, (3,) * 3, (3.0,) * 3, head_dim=4, patch_size=8, max_relative_position=2
        ),
    ),
    PiTSpace(
        name="small",
        base_dim=(4,),
        depth=((1, 2), (1, 2)),
        num_heads=(1, 2, 4),
        mlp_ratio=(2.0, 3.5),
        patch_size=8,
        stride=4,
        img_size=28,
        in_chans=2,
        num_classes=5,
    ),
)
SPACES = pytest.mark.parametrize("space", SMALL, ids=["autoformer", "pit"])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name.endswith("tiny") else pytest.mark.slow)
        for name in space_names()
    ],
)
def test_presets_collapsed(name: str) -> None:
    space = get_space(name)
    archs = sample(space, 2)
    supernet = supernet_of(space, num_classes=10)
    supernet.fixed_counts = {"collapsed": (2,)}  # type: ignore[misc]
    expected = own_shapes(supernet, "collapsed").batch(archs)
    assert fixed_shapes(supernet, "collapsed").batch(archs) == close(expected, 1e-9)


@pytest.mark.parametrize(("name", "img_size"), [("autoformer-tiny", 64), ("pit-tiny", 48)])
def test_presets_exact(name: str, img_size: int) -> None:
    space = get_space(name)
    archs = sample(space, 2)
    supernet = supernet_of(space, img_size=img_size, num_classes=10)
    supernet.fixed_counts = {"exact": (2,)}  # type: ignore[misc]
    expected = own_shapes(supernet, "exact").batch(archs)
    assert fixed_shapes(supernet, "exact").batch(archs) == close(expected, 1e-9)


@pytest.mark.parametrize(("name", "rounding"), [("autoformer-tiny", 1e-5), ("pit-tiny", 3e-5)])
def test_float32_loses_few_digits(name: str, rounding: float) -> None:
    space = get_space(name)
    archs = sample(space, 2)
    truth = own_shapes(supernet_of(space, num_classes=10), "collapsed").batch(archs)
    single = supernet_of(space, dtype=torch.float32, num_classes=10)
    single.fixed_counts = {"collapsed": (2,)}  # type: ignore[misc]
    assert fixed_shapes(single, "collapsed").batch(archs) == close(truth, rounding)


@FIDELITIES
@settings(max_examples=30, deadline=None)
@given(
    space=st.one_of(autoformers(), pits()),
    seed=st.integers(0, 1000),
    count=st.integers(1, 9),
    trained=st.booleans(),
)
def test_any_space(
    fidelity: str, space: SearchSpace, seed: int, count: int, trained: bool
) -> None:
    archs = sample(space, count, seed)
    supernet = supernet_of(space, trained=trained)
    expected = own_shapes(supernet, fidelity).batch(archs)
    assert fixed_shapes(supernet, fidelity).batch(archs) == close(expected, 1e-9)


@FIDELITIES
@SPACES
def test_only_the_sizes_differ_between_runs(space: SearchSpace, fidelity: str) -> None:
    """A recorded pass repeats its operations on other sizes, whatever they are."""
    supernet = supernet_of(space, trained=True)
    first, second = sample(space, 8), sample(space, 5, seed=1)
    engine = fixed_shapes(supernet, fidelity, replay=Recorded)
    alone = own_shapes(supernet, fidelity)
    assert engine.batch(first) == close(alone.batch(first), 1e-9)
    assert engine.batch(second) == close(alone.batch(second), 1e-9)


@FIDELITIES
@SPACES
def test_a_pass_writes_all_that_is_read(
    space: SearchSpace, fidelity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay finds what the candidates before have left."""
    archs = sample(space, 8)
    supernet = supernet_of(space, trained=True)
    expected = fixed_shapes(supernet, fidelity).batch(archs)
    empty = LinearStack.empty
    monkeypatch.setattr(LinearStack, "empty", lambda *args: empty(*args).fill_(torch.nan))
    assert fixed_shapes(supernet, fidelity).batch(archs) == expected


@FIDELITIES
@SPACES
def test_other_candidates_score_as_in_a_new_recording(
    space: SearchSpace, fidelity: str, watched: type[Watched]
) -> None:
    supernet = supernet_of(space, trained=True)
    supernet.fixed_counts = {fidelity: (8,)}  # type: ignore[misc]
    # The largest first: whatever it leaves would show in the smallest.
    batches = [
        [space.largest()] * 8,
        [space.smallest()] * 3 + [space.largest()],
        sample(space, 8),
        [space.smallest()] * 2,
    ]
    engine = fixed_shapes(supernet, fidelity, replay=watched)
    scores = [engine.batch(archs) for archs in batches]
    assert watched.made == [8]
    assert scores == [fixed_shapes(supernet, fidelity).batch(archs) for archs in batches]


@FIDELITIES
@SPACES
def test_neither_order_nor_padding_matters(space: SearchSpace, fidelity: str) -> None:
    archs = sample(space, 8)
    assert len({arch.depth for arch in archs}) > 1
    engine = fixed_shapes(supernet_of(space, trained=True), fidelity)
    scores = engine.batch(archs)
    order = np.random.default_rng(0).permutation(8)
    assert engine.batch([archs[i] for i in order]) == close([scores[i] for i in order], 1e-12)
    for count in (2, 5, 7):
        assert engine.batch(archs[:count]) == close(scores[:count], 1e-12)


@FIDELITIES
@SPACES
def test_explanations_are_those_of_own_shapes(space: SearchSpace, fidelity: str) -> None:
    supernet = supernet_of(space, trained=True)
    for arch in (space.smallest(), space.largest()):
        rows = fixed_shapes(supernet, fidelity).explain(arch)
        expected = own_shapes(supernet, fidelity).explain(arch)
        assert [row[:3] for row in rows] == [row[:3] for row in expected]
        for ours, theirs in zip(rows, expected, strict=True):
            assert ours.value == pytest.approx(theirs.value, rel=1e-9), ours.name


@pytest.mark.parametrize(
    ("fidelity", "batch_size", "n_archs", "made"),
    [
        ("collapsed", 8, 1, [1]),
        ("collapsed", 8, 2, [8]),
        ("collapsed", 8, 17, [8, 1]),
        ("collapsed", 70, 9, [64]),
        ("collapsed", 20, 9, []),  # 64 are more than fit into memory
        ("exact", 70, 9, []),
        ("exact", 1, 3, [1]),
    ],
)
def test_the_count_is_the_smallest_that_fits(
    fidelity: str, batch_size: int, n_archs: int, made: list[int], watched: type[Watched]
) -> None:
    space = SMALL[0]
    archs = sample(space, n_archs)
    supernet = supernet_of(space)
    engine = fixed_shapes(supernet, fidelity, batch_size=batch_size, replay=watched)
    scores = engine.batch(archs)
    assert watched.made == made
    assert scores == close(own_shapes(supernet, fidelity).batch(archs), 1e-9)


def test_a_family_says_for_how_many_it_records(watched: type[Watched]) -> None:
    supernet = supernet_of(SMALL[0])
    supernet.fixed_counts = {"exact": (3, 5)}  # type: ignore[misc]
    archs = sample(SMALL[0], 6)
    engine = fixed_shapes(supernet, "exact", replay=watched)
    for count in (4, 1, 6):
        engine.batch(archs[:count])
    assert watched.made == [5, 3]


def test_heads_that_share_the_width_have_no_fixed_pass(watched: type[Watched]) -> None:
    space = AutoFormerSpace(
        name="shared",
        embed_dim=(6, 12),
        depth=(1, 2),
        num_heads=(1, 2, 3),
        mlp_ratio=(1.0, 2.0),
        img_size=24,
        supernet=AutoFormerArchitecture(
            12, (3,) * 2, (2.0,) * 2, head_dim=None, patch_size=8, max_relative_position=2
        ),
    )
    supernet, archs = supernet_of(space, num_classes=3), sample(space, 6)
    scores = fixed_shapes(supernet, "collapsed", replay=watched).batch(archs)
    assert watched.made == []
    plain = LayerEngine(supernet, INDICATORS, fidelity="collapsed", batch_size=8)
    assert scores == plain.batch(archs)


def test_out_of_memory_halves_the_batch_and_gives_recordings_back(
    watched: type[Watched], caplog: pytest.LogCaptureFixture
) -> None:
    supernet, archs = supernet_of(SMALL[0]), sample(SMALL[0], 9)
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Scarce(watched):  # type: ignore[misc, valid-type]
        def __init__(self, run: Any, sizes: torch.Tensor, *rest: Any) -> None:
            super().__init__(run, sizes, *rest)
            alive.add(self)
            if len(sizes) > 1:
                assert len(alive) == 2
                raise torch.OutOfMemoryError("no more")

    engine = fixed_shapes(supernet, "exact", replay=Scarce)
    expected = own_shapes(supernet, "exact").batch(archs)
    assert engine.batch(archs[:1]) == close(expected[:1], 1e-9)
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        assert engine.batch(archs) == close(expected, 1e-9)
    assert (
        caplog.messages == ["out of memory with 8 candidates at once; going on with 4"]
        and engine.batch_size == 4
    )
    # A single one is recorded anew, as its first recording was given back.
    assert watched.made == [1, 8, 1]


def test_what_cannot_be_recorded_is_run_as_before(caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> PlainReplay:
        raise RuntimeError("operation not permitted when stream is capturing")

    supernet, archs = supernet_of(SMALL[1]), sample(SMALL[1], 3)
    supernet.fixed_counts = {"exact": (8,)}  # type: ignore[misc]
    engine = fixed_shapes(supernet, "exact", replay=fail)
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        scores = [engine.batch(archs), engine.batch(archs)]
    assert scores == [close(own_shapes(supernet, "exact").batch(archs), 1e-9)] * 2
    assert caplog.messages == [
        "passes cannot be recorded on cpu, and take longer: operation not permitted when stream is"
        " capturing"
    ]


@pytest.mark.parametrize("what", ["batch", "explain"])
def test_threads_take_turns_with_a_recording(what: str) -> None:
    class Slow(PlainReplay):
        def __call__(self, sizes: torch.Tensor) -> Sequence[LinearTrace]:
            traces = super().__call__(sizes)
            time.sleep(0.005)  # another thread would now put its candidates into the tensors
            return traces

    space = SMALL[0]
    engine = fixed_shapes(supernet_of(space), "collapsed", batch_size=1, replay=Slow)
    archs = [space.smallest(), space.largest()]
    score = engine.explain if what == "explain" else lambda arch: engine.batch([arch])
    expected = [score(arch) for arch in archs]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(score, 6 * archs)) == 6 * expected


class Cuda:
    """Stands for ``torch.cuda``, and keeps what is asked of it in the order of the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        self.within: list[str] = []
        cuda = self

        class Stream:
            def __init__(self, name: str = "side") -> None:
                self.name = name

            def wait_stream(self, other: Stream) -> None:
                cuda.log.append(f"{self.name} waits for {other.name}")

        class Graph:
            def replay(self) -> None:
                cuda.log.append("replay")
                cuda.operations()

        self.operations: Callable[[], None] = lambda: None
        self.pools: list[Any] = []
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("main"))
        monkeypatch.setattr(torch.cuda, "device", lambda device: self._inside(str(device)))
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: self._inside(stream.name))
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", self._graph)

    @contextlib.contextmanager
    def _inside(self, name: str) -> Iterator[None]:
        self.within.append(name)
        yield
        assert self.within.pop() == name

    @contextlib.contextmanager
    def _graph(self, graph: Any, pool: Any, capture_error_mode: str) -> Iterator[None]:
        self.pools.append(pool)
        with self._inside("graph"):
            yield


def test_a_graph_is_recorded_once_after_a_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    out = torch.zeros(2, 1, 1, 1)
    trace = LinearTrace(["head"], "head", (), PlainWeights(out[0]), out, out)
    held: list[torch.Tensor] = []

    def run(sizes: torch.Tensor) -> list[LinearTrace]:
        cuda.log.append(f"run in {', '.join(cuda.within)}")
        held.append(sizes)
        out.copy_(10.0 * sizes[:, :, None, None])
        return [trace]

    given = torch.tensor([[1], [2]])
    replay = GraphReplay(run, given, torch.device("cpu"), "the pool")
    assert cuda.log == [
        "side waits for main",
        "run in cpu, side",
        "run in cpu, side",
        "main waits for side",
        "run in cpu, graph",
    ]
    assert cuda.pools == ["the pool"]
    # The graph reads the tensor that it was recorded with.
    cuda.operations = lambda: out.copy_(10.0 * held[-1][:, :, None, None])  # type: ignore[assignment, return-value]
    cuda.log.clear()
    (again,) = replay(torch.tensor([[3], [4]]))
    assert cuda.log == ["replay"]
    assert again is trace and again.x.flatten().tolist() == [30.0, 40.0]


def test_graphs_of_an_engine_share_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[Any] = []

    class Pooled(PlainReplay):
        def __init__(self, run: Any, sizes: Any, device: torch.device, pool: Any) -> None:
            pools.append(pool)
            super().__init__(run, sizes, device)

    supernet, archs = supernet_of(SMALL[0]), sample(SMALL[0], 2)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    engines = [fixed_shapes(supernet, "collapsed", replay=Pooled) for _ in range(2)]
    for engine in engines:
        with monkeypatch.context() as patch:
            patch.setattr(supernet, "device", torch.device("cuda"))
            assert engine._pool is not None
        engine.batch(archs[:1]), engine.batch(archs)
    assert pools == [engines[0]._pool] * 2 + [engines[1]._pool] * 2
    assert engines[0]._pool is not engines[1]._pool


def test_only_a_gpu_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1 << 30, 1 << 31))
    supernet = supernet_of(SMALL[0])
    ground = SimpleNamespace(supernet=supernet)
    for device, replay in (("cpu", None), ("cuda", GraphReplay)):
        supernet.device = torch.device(device)
        engine = INDICATORS[0].engine(ground, INDICATORS, fidelity="exact", precision="highest")
        assert engine._replay is replay
