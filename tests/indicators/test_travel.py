"""Scorers that share supernets or travel, and scoring tasks as plain values."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from tftas_optuna import Scorer, TftasError, register_indicator
from tftas_optuna.architecture import Architecture
from tftas_optuna.metrics import Indicator, registry
from tftas_optuna.scoring import timing
from tftas_optuna.scoring.conditions import Conditions, SupernetSource
from tftas_optuna.scoring.task import BasisKey, ScoringTask, Worker, describe_worker, divide, score
from tftas_optuna.spaces import AutoFormerSpace

SIZES = {"img_size": 32, "num_classes": 10}


def mean_weight(model: Any, images: torch.Tensor) -> float:
    """At the top of a file, as what travels to other processes has to be."""
    return sum(parameter.double().sum().item() for parameter in model.parameters())


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_indicator("mean_weight", mean_weight)


def task(space: AutoFormerSpace, *indicators: str, fidelity: str = "exact") -> ScoringTask:
    conditions = Conditions.of(space, supernet=SupernetSource(3), n_seeds=2, **SIZES)
    return ScoringTask.of(conditions, indicators, fidelity)


def several(space: AutoFormerSpace, count: int) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [space.sample(rng) for _ in range(count)]


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": torch.float64},
        {"fidelity": "collapsed", "num_classes": 3},
        {"n_seeds": 2, "seed": 5, "img_size": 16},
        {"matmul_precision": "medium", "head_weight": 0.0},
        {"indicator": "mean_weight"},
    ],
)
def test_a_scorer_that_was_packed_scores_alike(
    small_space: AutoFormerSpace, options: dict[str, Any]
) -> None:
    scorer = Scorer(small_space, device="cpu", **{**SIZES, **options})
    again = pickle.loads(pickle.dumps(scorer))
    archs = several(small_space, 2)
    assert again.by_seed(archs) == scorer.by_seed(archs)
    for name in ("indicator", "fidelity", "seed", "n_seeds", "device", "img_size", "num_classes"):
        assert getattr(again, name) == getattr(scorer, name)
    # On a CPU the precision of products does not show in the scores.
    assert again.matmul_precision == scorer.matmul_precision


def test_scorers_of_two_indicators_share_their_supernets(small_space: AutoFormerSpace) -> None:
    first = Scorer(small_space, seed=3, n_seeds=2, matmul_precision="high", **SIZES)
    other = first.sharing("mean_weight")
    third = other.sharing("dss", "collapsed")
    archs = several(small_space, 3)
    own: dict[str, Any] = dict(seed=3, n_seeds=2, **SIZES)
    assert other.supernet is first.supernet and third.supernet is first.supernet
    assert other.by_seed(archs) == Scorer(small_space, indicator="mean_weight", **own).by_seed(
        archs
    )
    collapsed = Scorer(small_space, fidelity="collapsed", **own)
    assert third.batch(archs) == pytest.approx(collapsed.batch(archs), rel=1e-5)
    assert (third.fidelity, third.indicator.name) == ("collapsed", "dss")
    with pytest.raises(TftasError, match="'mean_weight' has no fidelity 'collapsed'"):
        first.sharing("mean_weight", "collapsed")


def test_a_task_scores_every_indicator_at_its_own_fidelity(small_space: AutoFormerSpace) -> None:
    (arch,) = archs = several(small_space, 1)
    both = task(small_space, "mean_weight", "dss", fidelity="collapsed")
    (found,) = score(BasisKey(both.conditions, "cpu"), both, archs)
    usual: dict[str, Any] = dict(seed=3, n_seeds=2, device="cpu", **SIZES)
    weights = Scorer(small_space, indicator="mean_weight", **usual)
    collapsed = Scorer(small_space, fidelity="collapsed", **usual)
    assert list(found) == ["mean_weight", "dss"]
    assert found["mean_weight"] == weights.by_seed([arch])[0]
    assert found["dss"] == pytest.approx(collapsed.by_seed([arch])[0], rel=1e-6)
    assert [fidelity for _, fidelity in both.entries()] == ["exact", "collapsed"]


def test_dividing_keeps_every_candidate_once(small_space: AutoFormerSpace) -> None:
    archs = several(small_space, 10) * 100
    for fidelity, most in (("exact", 1), ("collapsed", 256)):
        parts = divide(task(small_space, "dss", fidelity=fidelity), Worker("1", "cpu"), archs)
        assert max(map(len, parts)) == most
        assert sorted(map(str, sum(parts, []))) == sorted(map(str, archs))


def test_a_worker_describes_itself(small_space: AutoFormerSpace) -> None:
    conditions = task(small_space, "dss").conditions
    assert describe_worker(BasisKey(conditions, "cpu")).device == "cpu"
    with pytest.raises(TftasError, match="device 'cuda:99' is not there"):
        describe_worker(BasisKey(conditions, "cuda:99"))


def test_the_time_of_a_score_is_that_of_one_candidate(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that ticks a millisecond for every candidate."""
    monkeypatch.setattr(timing, "_seconds", lambda scorer, archs: len(archs) / 1000)
    monkeypatch.setattr(Scorer, "batch", lambda scorer, archs: [0.0] * len(archs))
    found = timing.seconds_per_score(small_space)
    assert found == {"exact": pytest.approx(0.001), "collapsed": pytest.approx(0.001)}
    assert set(timing.seconds_per_score(small_space, "mean_weight")) == {"exact"}


def test_an_indicator_of_no_kind_is_refused(small_space: AutoFormerSpace) -> None:
    with pytest.raises(TftasError, match="'odd' is of no kind that can be scored; make it a "):
        Scorer(small_space, indicator=Indicator("odd"), **SIZES)
