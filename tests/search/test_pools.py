"""A pool lets go of all that it took: threads, settings of PyTorch, supernets."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tftas_optuna import Scorer, search
from tftas_optuna.errors import TftasError
from tftas_optuna.scoring.conditions import Conditions, SupernetSource
from tftas_optuna.scoring.execution import Execution
from tftas_optuna.scoring.pool import ScoringPool
from tftas_optuna.scoring.task import ScoringTask
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.supernet import Supernet


def supernets() -> list[Supernet]:
    gc.collect()
    return [each for each in gc.get_objects() if issubclass(type(each), Supernet)]


def scoring_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("tftas-scores")]


@pytest.fixture
def pytorch() -> Iterator[None]:
    """Give PyTorch settings of a user's, and look whether they are still there in the end."""
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.set_float32_matmul_precision("high")
    yield
    found = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    assert found == (3, "high")


def task(
    space: AutoFormerSpace, *indicators: str, supernet_seed: int = 0, fidelity: str = "exact"
) -> ScoringTask:
    source = SupernetSource(supernet_seed)
    conditions = Conditions.of(space, img_size=32, num_classes=10, supernet=source)
    return ScoringTask.of(conditions, indicators or ("dss",), fidelity)


def scored(pool: ScoringPool, task: ScoringTask) -> None:
    archs = [task.conditions.space.smallest(), task.conditions.space.largest()]
    for _ in pool.scores(task, archs, set(archs)):
        pass


@pytest.mark.usefixtures("pytorch")
def test_a_device_that_is_refused_leaves_nothing_behind(small_space: AutoFormerSpace) -> None:
    with pytest.raises(TftasError, match="'cuda:99' is not there"):
        search(small_space, n_trials=2, execution=Execution(device="cuda:99"))
    assert not scoring_threads()


@pytest.mark.usefixtures("pytorch")
def test_a_search_leaves_no_thread_and_no_supernet(small_space: AutoFormerSpace) -> None:
    before = supernets()
    search(small_space, n_trials=4, img_size=32)
    assert not scoring_threads()
    assert [each for each in supernets() if each not in before] == []


def test_pools_side_by_side_keep_their_supernets(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[int] = Counter()
    init = Supernet.__init__

    def count(self: Supernet, *args: Any, seed: int, **kwargs: Any) -> None:
        made[seed] += 1
        init(self, *args, seed=seed, **kwargs)

    monkeypatch.setattr(Supernet, "__init__", count)
    here = Execution(device="cpu")
    one, other = task(small_space), task(small_space, supernet_seed=1)
    with here.open_pool(other.conditions) as second:
        with here.open_pool(one.conditions) as first:
            for _ in range(2):
                scored(first, one)
                scored(second, other)
        scored(second, other)
    assert made == {0: 1, 1: 1}


@pytest.mark.usefixtures("pytorch")
def test_pools_that_overlap_leave_pytorch_its_threads(small_space: AutoFormerSpace) -> None:
    first = Execution(device="cpu").open_pool(task(small_space).conditions)
    scored(first, task(small_space))
    counts: list[int] = []

    def beside() -> None:
        # A thread that computes nothing before takes what the pool's threads have set.
        with Execution(device="cpu").open_pool(task(small_space).conditions) as second:
            scored(second, task(small_space))
            first.close()
        counts.append(torch.get_num_threads())

    thread = threading.Thread(target=beside)
    thread.start()
    thread.join(120)
    assert counts == [3]


@pytest.mark.usefixtures("pytorch")
def test_a_scorer_beside_a_pool_leaves_pytorch_its_threads(small_space: AutoFormerSpace) -> None:
    pool = Execution(device="cpu").open_pool(task(small_space).conditions)
    scored(pool, task(small_space))
    counts: list[int] = []

    def beside() -> None:
        Scorer(small_space, img_size=32)(small_space.smallest())
        counts.append(torch.get_num_threads())

    thread = threading.Thread(target=beside)
    thread.start()
    thread.join(120)
    pool.close()
    assert counts == [3]
