"""Pools that score candidates: in this process, in others on this machine, or on a Dask cluster.

All of them use executors of :mod:`concurrent.futures`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import uuid
from collections import deque
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from tftas_optuna.devices import gpu_names, keep_threads, stay_on_one_thread, usual_threads
from tftas_optuna.errors import UnavailableError
from tftas_optuna.scoring.task import (
    BasisKey,
    describe_worker,
    divide,
    prepare,
    release,
    score,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.queues import SimpleQueue

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.scoring.panel import Scores
    from tftas_optuna.scoring.task import ScoringTask, Worker

_MAX_LOSSES = 3
_POLL = 0.2

ScoresOf = dict["Architecture", "Scores"]


def _shut(executor: Executor, pool: str) -> None:
    executor.shutdown()


class Workforce(NamedTuple):
    """Processes or threads to score in.

    Attributes:
        name: Its name in messages.
        make: Makes the executor; called again when its processes were lost.
        at_once: Number of submissions that keeps it busy.
        losses: The exceptions that mean lost processes.
        close: Shuts the executor down; takes the executor and the id of the pool.
    """

    name: str
    make: Callable[[], Executor]
    at_once: int
    losses: tuple[type[BaseException], ...] = (BrokenExecutor,)
    close: Callable[[Executor, str], object] = _shut


def this_process() -> Workforce:
    """Return a workforce of threads in this process, as many as PyTorch has."""
    count = usual_threads()
    return Workforce("this process", partial(_Threads, count), 2 * count)


def worker_processes(count: int, device: str) -> Workforce:
    """Return a workforce of processes on this machine, each with one GPU or one CPU thread.

    Args:
        count: Number of processes.
        device: The device to score on. For ``"auto"`` and ``"cuda"`` the processes take the GPUs
            in turn.
    """
    gpus = gpu_names() if device in ("auto", "cuda") else []

    def make() -> Executor:
        context = multiprocessing.get_context("spawn")
        names: SimpleQueue[str] = context.SimpleQueue()
        for i in range(count if gpus else 0):
            names.put(gpus[i % len(gpus)])
        return ProcessPoolExecutor(
            count, context, initializer=_start_worker, initargs=(names if gpus else None,)
        )

    return Workforce(f"{count} workers", make, 2 * count)


def dask_cluster(address: str) -> Workforce:
    """Return a workforce of the workers of a Dask cluster, which need this package.

    Args:
        address: Address of the scheduler, such as ``tcp://head:8786``.

    Raises:
        UnavailableError: Dask is not installed, the scheduler does not answer, or it has no
            workers.
    """
    try:
        import distributed
    except ImportError as error:
        raise UnavailableError(
            "a cluster needs Dask; pip install 'tftas-optuna[cluster]'"
        ) from error
    try:
        client: Any = distributed.Client(address, timeout=10, set_as_default=False)
        threads = sum(client.nthreads().values())
    except (OSError, ValueError, TimeoutError) as error:
        raise UnavailableError(f"no Dask scheduler answers at {address!r}: {error}") from error
    if not threads:
        client.close()
        raise UnavailableError(f"the cluster at {address} has no workers; start `dask worker`")

    def close(executor: Executor, pool: str) -> None:
        executor.shutdown(wait=False)
        with contextlib.suppress(OSError):
            # The workers outlive this search, so they must free its supernets.
            client.run(release, pool, on_error="ignore")
        client.close()

    return Workforce(
        f"the cluster at {address}",
        client.get_executor,
        2 * threads,
        (distributed.KilledWorker, CancelledError, distributed.comm.CommClosedError),
        close,
    )


class ScoringPool:
    """Scores candidates under fixed conditions, and repeats the work of lost processes.

    The pool owns the supernets and images in all of its processes and frees them when it is
    closed. Use it as a context manager.

    Args:
        conditions: The conditions.
        batches: Number of batches of images that the indicators see.
        workforce: The processes to score in.
        device: The device that each process computes on.

    Attributes:
        key: The key of its supernets and images, for scoring on them in this process.

    Raises:
        TftasError: The device does not exist.
        UnavailableError: This package is missing in the workforce, or has another version there.
    """

    def __init__(
        self, conditions: Conditions, batches: int, workforce: Workforce, device: str
    ) -> None:
        images = conditions.images
        compared = images is not None and images.data_dir is not None and images.digest is not None
        self.key = BasisKey(conditions, device, batches if compared else 0, uuid.uuid4().hex)
        self._workforce = workforce
        self._executor = workforce.make()
        try:
            self._worker = self._checked_worker()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ScoringPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _checked_worker(self) -> Worker:
        """Return the description of a worker, after checking its version."""
        name = self._workforce.name
        try:
            worker = self._executor.submit(describe_worker, self.key).result()
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"{name} cannot score: {error}; install tftas-optuna there"
            ) from error
        ours = metadata.version("tftas-optuna")
        if worker.version != ours:
            raise UnavailableError(
                f"{name} has tftas-optuna {worker.version}, this is {ours}; install the same"
            )
        return worker

    def prepare(self, task: ScoringTask) -> None:
        """Start drawing the supernets of a task in the background."""
        self._executor.submit(prepare, self.key, task)

    def scores(
        self, task: ScoringTask, archs: Sequence[Architecture], needed: set[Architecture]
    ) -> Iterator[ScoresOf]:
        """Yield the scores of candidates in parts, in the order in which the parts finish.

        An empty part is yielded a few times a second, so that the caller can do other things.

        Args:
            task: What to compute, under the conditions of this pool.
            archs: New candidates of a generation. All of them decide how they are divided into
                parts.
            needed: The candidates to score; others in the same parts are scored too.

        Raises:
            TftasError: A candidate cannot be scored.
            UnavailableError: Processes were lost several times in a row.
        """
        parts = deque(
            part for part in divide(task, self._worker, archs) if not needed.isdisjoint(part)
        )
        running: dict[Future[list[Scores]], list[Architecture]] = {}
        losses = 0
        try:
            while parts or running:
                try:
                    while parts and len(running) < self._workforce.at_once:
                        running[self._executor.submit(score, self.key, task, parts[0])] = parts[0]
                        parts.popleft()
                    done, _ = wait(running, _POLL, FIRST_COMPLETED)
                    results = {future: future.result() for future in done}
                except self._workforce.losses as error:
                    losses += 1
                    if losses == _MAX_LOSSES:
                        raise UnavailableError(
                            f"{self._workforce.name}: processes were lost {losses} times in a"
                            " row while scoring; is there memory enough for all of them?"
                        ) from error
                    parts.extendleft(reversed(running.values()))
                    running.clear()
                    self._executor.shutdown(wait=False)
                    self._executor = self._workforce.make()
                    continue
                losses = 0 if done else losses
                yield {
                    arch: scores
                    for future, result in results.items()
                    for arch, scores in zip(running.pop(future), result, strict=True)
                }
        finally:
            for future in running:
                future.cancel()

    def close(self) -> None:
        """Shut the processes down after the candidates in work, and free the supernets."""
        self._workforce.close(self._executor, self.key.pool)
        release(self.key.pool)


class _Threads(ThreadPoolExecutor):
    """Threads of this process, each of which computes on one core.

    PyTorch's number of threads is restored at shutdown.

    Args:
        count: Number of threads.
    """

    def __init__(self, count: int) -> None:
        self._restore = contextlib.ExitStack()
        self._restore.enter_context(keep_threads())
        super().__init__(count, "tftas-scores", initializer=stay_on_one_thread)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut the threads down; see :class:`concurrent.futures.Executor`."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._restore.close()


def _start_worker(gpus: SimpleQueue[str] | None) -> None:
    # Ctrl-C reaches every process of the terminal, but only the search may react to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.get()
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Exit when the parent process ends, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
