"""Several workers on several GPUs, which are pretended: what is scored there is scored on the CPU.

What is looked at is which GPU a process would have used, as CUDA numbers those it may see.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from processes import CONTEXT, at, seen

from tftas_optuna import TftasError
from tftas_optuna.architecture import Architecture
from tftas_optuna.devices import resolve_device
from tftas_optuna.scoring import basis, pool, task
from tftas_optuna.scoring.task import BasisKey, ScoringTask
from tftas_optuna.storage import load_study

GPUS = ("0", "1")


class Log(NamedTuple):
    """What workers write down, in a folder: a line when one starts, and one for each score."""

    folder: Path
    # After so many scores a worker is killed, once.
    lost_after: int | None = None

    def add(self, kind: str, *values: object) -> int:
        """Add a line of a kind; return how many there are."""
        path = self.folder / kind
        with path.open("a") as file:
            file.write(json.dumps([os.getpid(), *values]) + "\n")
        return len(self.read(kind))

    def read(self, kind: str) -> list[list[Any]]:
        return [json.loads(line) for line in (self.folder / kind).read_text().splitlines()]

    @property
    def gpus(self) -> list[dict[int, str]]:
        """The GPU of each worker that was started, by its process; one mapping for each pool."""
        pools: dict[int, dict[int, str]] = {}
        for pid, number, gpu in self.read("started"):
            pools.setdefault(number, {})[pid] = gpu
        return [pools[number] for number in sorted(pools)]


def visible() -> list[str]:
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(GPUS)).split(",")


def pretend(patch: Any) -> None:
    """Let this process see the GPUs, and compute on the CPU."""

    def on_cpu(device: Any) -> torch.device:
        resolve_device(device)
        return torch.device("cpu")

    patch(torch.cuda, "is_available", lambda: True)
    patch(torch.cuda, "device_count", lambda: len(visible()))
    patch(task, "resolve_device", on_cpu)
    patch(basis, "resolve_device", on_cpu)


def start_worker(log: Log, number: int, gpus: Any) -> None:
    START(gpus)
    pretend(setattr)
    log.add("started", number, ",".join(visible()))


def score(log: Log, key: BasisKey, task: ScoringTask, archs: list[Architecture]) -> Any:
    gpu = visible()[resolve_device(key.device).index or 0]
    count = log.add("scored", gpu, archs[0].summary())
    if count == log.lost_after:
        os.kill(os.getpid(), signal.SIGKILL)
    return SCORE(key, task, archs)


START, SCORE = pool._start_worker, pool.score


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A machine with two GPUs, whose workers write a log."""

    numbers = itertools.count()

    class Numbered(ProcessPoolExecutor):
        def __init__(self, *args: Any, initargs: Any, **kwargs: Any) -> None:
            super().__init__(*args, initargs=(next(numbers), *initargs), **kwargs)

    def begin(lost_after: int | None = None) -> Log:
        log = Log(tmp_path, lost_after)
        monkeypatch.setattr(pool, "_start_worker", partial(start_worker, log))
        monkeypatch.setattr(pool, "score", partial(score, log))
        return log

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", Numbered)
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda _: CONTEXT)
    pretend(monkeypatch.setattr)
    return begin


# One part for each candidate.
EXACT = {"fidelity": "exact", "workers": 2, "n_trials": 16}


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_two_workers_take_a_gpu_each(run: Any, machine: Any, device: str) -> None:
    log = machine()
    study = run(device=device, **EXACT)
    (gpus,) = log.gpus
    assert sorted(gpus.values()) == ["0", "1"]
    assert all(gpus[pid] == gpu for pid, gpu, _ in log.read("scored"))
    assert seen(study) == seen(run(**{**EXACT, "workers": 1}))


def test_what_a_lost_worker_had_is_scored_again_on_a_gpu_of_its_own(
    run: Any, machine: Any
) -> None:
    log = machine(lost_after=5)
    study = run(device="cuda", **EXACT)
    before, after = log.gpus
    # The second worker may have been too late to start before the first one was lost.
    assert set(before.values()) <= {"0", "1"} and len(set(before.values())) == len(before)
    assert sorted(after.values()) == ["0", "1"]
    scored = log.read("scored")
    assert all((before | after)[pid] == gpu for pid, gpu, _ in scored)
    lost = scored[4][2]
    assert [pid for pid, _, arch in scored[5:] if arch == lost and pid in after]
    assert seen(study) == seen(run(**{**EXACT, "workers": 1}))


def test_workers_stay_on_a_gpu_that_is_named(run: Any, machine: Any) -> None:
    log = machine()
    run(device="cuda:1", **EXACT)
    assert {gpu for _, gpu, _ in log.read("scored")} == {"1"}
    assert [set(gpus.values()) for gpus in log.gpus] == [{"0,1"}]
    with pytest.raises(TftasError, match="'cuda:2' is not there: 2 CUDA devices"):
        run(device="cuda:2", **EXACT)


def test_only_the_gpus_that_may_be_seen_are_taken(
    run: Any, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = machine()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-a")
    run(device="cuda", **EXACT)
    assert [sorted(gpus.values()) for gpus in log.gpus] == [["GPU-a", "GPU-b"]]


def test_a_search_goes_on_with_other_gpus_to_the_same_study(
    run: Any, machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    log = machine()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(device="cuda", storage=storage, callback=at(5, interrupt), **EXACT)
    n_stored = len(load_study(storage).trials)
    assert 5 <= n_stored < 16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    study = run(device="cuda", storage=storage, **{**EXACT, "n_trials": 16 - n_stored})
    assert [sorted(gpus.values()) for gpus in log.gpus] == [["0", "1"], ["1", "1"]]
    assert seen(study) == seen(run(**{**EXACT, "workers": 1}))
