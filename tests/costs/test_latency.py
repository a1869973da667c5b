"""The latency table: a sum over blocks that a record brings back."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tftas_optuna import Architecture, TftasError, UnavailableError
from tftas_optuna.costs import latency
from tftas_optuna.costs._network import empty_model
from tftas_optuna.costs.latency import measure_latency
from tftas_optuna.metrics import Target, get_cost
from tftas_optuna.spaces import AutoFormerSpace


def true_latency(arch: Architecture) -> float:
    """A machine whose blocks take their time whatever is around them."""
    blocks = zip(arch.num_heads, arch.mlp_ratio, strict=True)
    return arch.embed_dim / 50 + sum(0.1 * heads + 0.3 * ratio for heads, ratio in blocks)


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[Architecture]:
    """Replace the clock by an ideal machine; collect what was measured."""
    measured: list[Architecture] = []

    def measure(arch: Architecture, target: Target, *, runs: int) -> float:
        measured.append(arch)
        return true_latency(arch)

    monkeypatch.setattr(latency, "measure_latency", measure)
    return measured


def test_the_table_adds_up_to_every_architecture(
    small_space: AutoFormerSpace, visits: list[Architecture]
) -> None:
    meter = get_cost("latency").open(small_space, Target(img_size=32), None)
    kinds = {(a.embed_dim, a.num_heads[0], a.mlp_ratio[0]) for a in visits}
    assert len(kinds) == 3 * 3 * 3
    n_measured = len(visits)
    rng = np.random.default_rng(0)
    for _ in range(20):
        arch = small_space.sample(rng)
        assert meter(arch) == pytest.approx(true_latency(arch))
    assert len(visits) == n_measured


def test_one_slow_visit_does_not_show(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(10**6))

    def measure(arch: Architecture, target: Target, *, runs: int) -> float:
        # Every seventh visit, another program is in the way.
        return true_latency(arch) * (3 if next(count) % 7 == 0 else 1)

    monkeypatch.setattr(latency, "measure_latency", measure)
    meter = get_cost("latency").open(small_space, Target(img_size=32), None)
    arch = small_space.largest()
    assert meter(arch) == pytest.approx(true_latency(arch))


def test_a_machine_that_grows_slower_measures_the_same_table(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(10**6))

    def measure(arch: Architecture, target: Target, *, runs: int) -> float:
        return true_latency(arch) * (1 + next(count) / 100)

    monkeypatch.setattr(latency, "measure_latency", measure)
    table = get_cost("latency").open(small_space, Target(img_size=32), None)
    rng = np.random.default_rng(0)
    paces = [table(arch) / true_latency(arch) for arch in map(small_space.sample, [rng] * 20)]
    assert max(paces) / min(paces) == pytest.approx(1, abs=0.01)


def test_a_record_brings_the_same_table_back_without_measuring(
    small_space: AutoFormerSpace, visits: list[Architecture]
) -> None:
    meter = get_cost("latency").open(small_space, Target(img_size=32), None)
    n_measured = len(visits)
    record = json.loads(json.dumps(meter.record))
    again = get_cost("latency").open(small_space, Target(img_size=32), record)
    arch = small_space.sample(np.random.default_rng(3))
    assert again(arch) == meter(arch) and len(visits) == n_measured


@pytest.mark.parametrize("record", [{}, {"blocks": [[1, 2]], "rest": []}, {"blocks": 3}])
def test_a_damaged_record_is_refused(small_space: AutoFormerSpace, record: object) -> None:
    with pytest.raises(TftasError, match="the latency table is damaged"):
        get_cost("latency").open(small_space, Target(), record)  # type: ignore[arg-type]


def test_noise_puts_no_block_below_zero(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)

    def measure(arch: Architecture, target: Target, *, runs: int) -> float:
        # Networks so small that their blocks drown in what calling them takes.
        return float(rng.lognormal(sigma=0.8)) + true_latency(arch) / 100

    monkeypatch.setattr(latency, "measure_latency", measure)
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        meter = get_cost("latency").open(small_space, Target(img_size=32), None)
    record = meter.record
    assert min(row[-1] for row in (*record["blocks"], *record["rest"])) >= 0
    assert 0.15 < record["check"]["median"] <= 0.5
    assert f"off by {record['check']['median']:.0%} (median of 8 whole networks" in caplog.text
    assert "--latency-batch-size" in caplog.text


def test_a_table_that_says_nothing_of_whole_networks_is_refused(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(arch: Architecture, target: Target, *, runs: int) -> float:
        # Blocks of one kind alone share what others do not.
        return true_latency(arch) * (1 if len(set(arch.num_heads)) == 1 else 4)

    monkeypatch.setattr(latency, "measure_latency", measure)
    with pytest.raises(UnavailableError, match=r"off by 75% \(median of 8 whole networks"):
        get_cost("latency").open(small_space, Target(img_size=32), None)


def test_a_table_of_an_earlier_release_below_zero_is_read_with_a_warning(
    small_space: AutoFormerSpace, caplog: pytest.LogCaptureFixture
) -> None:
    record = {"reference": 1.0, "blocks": [[32, 1, 2.0, -0.5]], "rest": [[32, 1.0]]}
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        get_cost("latency").open(small_space, Target(img_size=32), record)
    assert "has 1 entries below zero" in caplog.text


def test_an_architecture_outside_the_table_is_refused(
    small_space: AutoFormerSpace, visits: list[Architecture]
) -> None:
    meter = get_cost("latency").open(small_space, Target(img_size=32), None)
    with pytest.raises(TftasError, match="the latency table has no entry for"):
        meter(small_space.supernet)


def test_measuring_leaves_the_threads_alone(small_space: AutoFormerSpace) -> None:
    before = torch.get_num_threads()
    target = Target(img_size=32, batch_size=2, threads=1)
    assert measure_latency(small_space.largest(), target, runs=2) > 0
    assert torch.get_num_threads() == before


def test_what_is_measured_is_a_batch_after_a_warm_up(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[tuple[int, ...], int, bool]] = []
    passed = 0.0

    class Network(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            nonlocal passed
            passed += 100.0 if len(seen) < 2 else 0.25
            seen.append((images.shape, torch.get_num_threads(), images.requires_grad))
            return images

    clock = SimpleNamespace(perf_counter=lambda: passed)
    monkeypatch.setattr(latency, "empty_model", lambda arch, target, device: Network().eval())
    monkeypatch.setattr(latency, "time", clock)
    threads = 2 if torch.get_num_threads() == 1 else 1
    target = Target(img_size=16, in_chans=2, batch_size=5, threads=threads)
    assert measure_latency(small_space.smallest(), target, runs=2) == 250.0
    assert seen == [((5, 2, 16, 16), threads, False)] * 4


def test_networks_are_measured_as_they_are_deployed(small_space: AutoFormerSpace) -> None:
    model = empty_model(small_space.smallest(), Target(img_size=32, num_classes=3))
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model(torch.zeros(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("field", ["batch_size", "threads", "img_size"])
def test_settings_out_of_range_are_refused(field: str) -> None:
    with pytest.raises(TftasError, match=f"{field} is 0, allowed is 1 or more"):
        Target(**{field: 0})
