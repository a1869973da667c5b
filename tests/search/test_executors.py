from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import CONTEXT, PATIENCE, seen, start

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.scoring import pool as executors
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_give_the_same_study(
    run: Any, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    """To the last digit.

    In a child process, where queues close before executors do: workers that are busy when time
    is up, and were not waited for, would wait for a word forever.
    """
    found: list[object] = []
    # On a busy machine time may be up before the workers have begun.
    for seconds in (2.0, 30.0, 120.0):
        storage = f"sqlite:///{tmp_path}/study{seconds:g}.db"
        child = start(small_space.to_dict(), 10_000, storage, workers=2, timeout=seconds)
        child.join(PATIENCE)
        assert child.exitcode == 0
        found = seen(load_study(storage, small_space.name))
        if found:
            break
    assert found == seen(run(n_trials=len(found)))


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_study(run: Any) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        study = run(cluster=cluster.scheduler_address, fidelity="collapsed")
    assert seen(study) == seen(run(fidelity="collapsed"))


def test_a_cut_generation_scores_to_the_same_digits(run: Any, tmp_path: Any) -> None:
    whole = run(n_trials=20, fidelity="collapsed")
    for n_trials in (3, 9, 8):
        study = run(
            n_trials=n_trials, fidelity="collapsed", storage=f"sqlite:///{tmp_path}/parts.db"
        )
    assert seen(study) == seen(whole)


def test_a_gpu_is_needed_only_where_candidates_are_scored(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_the_worker(key: Any) -> Any:
        return key._replace(device="cpu")

    describe, score = executors.describe_worker, executors.score
    monkeypatch.setattr(executors, "describe_worker", lambda key: describe(on_the_worker(key)))
    monkeypatch.setattr(
        executors, "score", lambda key, task, archs: score(on_the_worker(key), task, archs)
    )
    monkeypatch.setattr(
        "tftas_optuna.scoring.execution.dask_cluster", lambda _: executors.this_process()
    )
    there = {"device": "cuda:99", "cluster": "tcp://head:8786"}
    assert seen(run(**there)) == seen(run())
    with pytest.raises(TftasError, match="'cuda:99' is not there"):
        run(**there, objectives=("dss", "latency"))


def test_processes_that_are_lost_again_and_again_are_an_error(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doomed(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if fn is executors.score:
                raise BrokenExecutor("killed")
            return super().submit(fn, *args, **kwargs)

    made: list[Doomed] = []

    def make() -> Doomed:
        made.append(Doomed(1))
        return made[-1]

    place = executors.Workforce("2 workers", make, 4)
    monkeypatch.setattr("tftas_optuna.scoring.execution.worker_processes", lambda *_: place)
    with pytest.raises(UnavailableError, match="2 workers: processes were lost 3 times in a row"):
        run(workers=2)
    assert len(made) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": 0}, "workers is 0, allowed is 1 or more"),
        ({"workers": 2, "cluster": "tcp://127.0.0.1:9"}, "give one of them"),
    ],
)
def test_bad_places_to_score(run: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TftasError, match=message):
        run(**change)


def test_a_cluster_without_dask_names_the_extra(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UnavailableError, match=r"pip install 'tftas-optuna\[cluster\]'"):
        run(cluster="tcp://127.0.0.1:9")


def test_another_version_on_the_cluster_is_refused(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = executors.describe_worker
    monkeypatch.setattr(
        executors, "describe_worker", lambda key: other(key)._replace(version="9.9")
    )
    with pytest.raises(UnavailableError, match=r"has tftas-optuna 9\.9, this is .*; install"):
        run()


def lossy(monkeypatch: pytest.MonkeyPatch, every: int, at_once: int) -> list[Future[Any]]:
    """Score with ``workers=2`` in threads, of which every so many lose what they score."""
    lost: list[Future[Any]] = []
    turns = itertools.count()

    class Lossy(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if fn is not executors.score or next(turns) % every:
                return super().submit(fn, *args, **kwargs)
            lost.append(Future())
            lost[-1].set_exception(BrokenExecutor("killed"))
            return lost[-1]

    place = executors.Workforce("2 workers", lambda: Lossy(1), at_once)
    monkeypatch.setattr("tftas_optuna.scoring.execution.worker_processes", lambda *_: place)
    return lost


@pytest.mark.parametrize(("every", "at_once"), [(2, 1), (9, 4)])
def test_the_work_of_a_process_that_is_lost_now_and_then_is_done_again(
    run: Any, monkeypatch: pytest.MonkeyPatch, every: int, at_once: int
) -> None:
    lost = lossy(monkeypatch, every, at_once)
    # One by one, so that there is enough to lose.
    again, whole = run(workers=2, fidelity="exact").trials, run(fidelity="exact").trials
    assert [trial.params for trial in again] == [trial.params for trial in whole]
    # Matrix products of another thread may round otherwise.
    for one, other in zip(again, whole, strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-6)
    assert len(lost) >= 3


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_every_worker_gets_a_gpu_of_its_own_in_turn(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(executors, "gpu_names", lambda: ["GPU-a", "GPU-b"])
    assert gpus_of_workers(monkeypatch, 3, device) == ["GPU-a", "GPU-b", "GPU-a"]
    for named in ("cpu", "cuda:1"):
        assert gpus_of_workers(monkeypatch, 3, named) == []


def gpus_of_workers(monkeypatch: pytest.MonkeyPatch, count: int, device: str) -> list[str]:
    """What worker processes would see, were they started one after the other."""
    seen: list[str] = []

    def start(count: int, context: Any, initializer: Any, initargs: Any) -> None:
        for _ in range(count):
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            initializer(*initargs)
            seen.extend(filter(None, [os.environ.get("CUDA_VISIBLE_DEVICES")]))

    monkeypatch.setattr(executors, "ProcessPoolExecutor", start)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        executors.worker_processes(count, device).make()
    finally:
        signal.signal(signal.SIGINT, interrupt)
    return seen


def test_workers_without_this_package_are_told(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe_worker(key: Any) -> Any:
        raise ModuleNotFoundError("No module named 'tftas_optuna'")

    monkeypatch.setattr(executors, "describe_worker", describe_worker)
    message = "this process cannot score: No module named 'tftas_optuna'; install tftas-optuna"
    with pytest.raises(UnavailableError, match=message):
        run()


def test_a_cluster_without_workers_is_told(run: Any) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        before = set(cluster.scheduler.clients)
        with pytest.raises(UnavailableError, match="has no workers; start `dask worker`"):
            run(cluster=cluster.scheduler_address)
        # A client that is left open complains of the cluster's end later on.
        for _ in range(500):
            if set(cluster.scheduler.clients) == before:
                return
            time.sleep(0.01)
        pytest.fail("the client is still there")


def test_a_worker_ends_with_a_search_that_is_killed() -> None:
    ours, theirs = CONTEXT.Pipe()
    searching = CONTEXT.Process(target=_search_with_a_worker, args=(theirs,))
    searching.start()
    theirs.close()
    assert ours.recv() == "working"
    searching.kill()
    searching.join()
    # The worker holds the other end as long as it lives.
    assert ours.poll(30)
    with pytest.raises(EOFError):
        ours.recv()


def _search_with_a_worker(theirs: Any) -> None:
    worker = multiprocessing.get_context("fork").Process(target=_work, args=(theirs,))
    worker.start()
    theirs.close()
    worker.join()


def _work(theirs: Any) -> None:
    executors._start_worker(None)
    theirs.send("working")
    time.sleep(60)
