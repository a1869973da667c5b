"""Where candidates are scored: this process, others on this machine, or a Dask cluster.

All of them are executors of :mod:`concurrent.futures`.
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
from tftas_optuna.scoring.task import Home, divide, prepare, release, score, visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.queues import SimpleQueue

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.scoring.panel import Scores
    from tftas_optuna.scoring.task import ScoringTask, Site

_LOSSES = 3
_POLL = 0.2

ScoresOf = dict["Architecture", "Scores"]


def _shut(executor: Executor, pool: str) -> None:
    executor.shutdown()


class Workforce(NamedTuple):
    """Processes to score in.

    Attributes:
        name: What to call it in messages.
        make: Makes the executor; called again when its processes are gone.
        at_once: Submissions that keep it busy.
        losses: What it raises when processes are gone.
        close: Lets go of the executor, when nothing more is scored for a pool.
    """

    name: str
    make: Callable[[], Executor]
    at_once: int
    losses: tuple[type[BaseException], ...] = (BrokenExecutor,)
    close: Callable[[Executor, str], object] = _shut


def this_process() -> Workforce:
    """Score in this process, in as many threads as PyTorch has."""
    count = usual_threads()
    return Workforce("this process", partial(_Threads, count), 2 * count)


def worker_processes(count: int, device: str) -> Workforce:
    """Score in processes of this machine, one for each GPU or with one thread each.

    Args:
        count: How many.
        device: The device asked for; without an index every process gets a GPU of its own, in
            turn.
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
    """Score on a Dask cluster whose workers have this package.

    Args:
        address: Of its scheduler, such as ``tcp://head:8786``.

    Raises:
        UnavailableError: Dask is not installed, or nothing answers there, or it has no workers.
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
            # The workers go on when this search has ended.
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
    """Scores candidates under some conditions, and does a lost process's work again.

    The supernets and images that it scores on are its own, wherever they are, and gone when it is
    closed: use it as a context manager.

    Args:
        conditions: The conditions.
        batches: Batches of images that are seen.
        workforce: Where.
        device: On which device each process computes.

    Attributes:
        home: Its supernets, for whoever computes on them in this process.

    Raises:
        TftasError: The device is not there.
        UnavailableError: The workforce has another version of this package, or none.
    """

    def __init__(
        self, conditions: Conditions, batches: int, workforce: Workforce, device: str
    ) -> None:
        images = conditions.images
        compared = images is not None and images.data_dir is not None and images.digest is not None
        self.home = Home(conditions, device, batches if compared else 0, uuid.uuid4().hex)
        self._workforce = workforce
        self._executor = workforce.make()
        try:
            self._site = self._visited()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ScoringPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _visited(self) -> Site:
        name = self._workforce.name
        try:
            site = self._executor.submit(visit, self.home).result()
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"{name} cannot score: {error}; install tftas-optuna there"
            ) from error
        ours = metadata.version("tftas-optuna")
        if site.version != ours:
            raise UnavailableError(
                f"{name} has tftas-optuna {site.version}, this is {ours}; install the same"
            )
        return site

    def prepare(self, task: ScoringTask) -> None:
        """Begin to draw the supernets of a task, while the caller goes on."""
        self._executor.submit(prepare, self.home, task)

    def scores(
        self, task: ScoringTask, archs: Sequence[Architecture], wanted: set[Architecture]
    ) -> Iterator[ScoresOf]:
        """Score candidates part by part, in the order in which the parts are done.

        An empty part comes a few times a second, so that the caller can look around.

        Args:
            task: What to compute of them, under the conditions of this pool.
            archs: New candidates of a generation; how they are divided depends on all of them.
            wanted: Those that are needed; others come along with them.

        Raises:
            TftasError: A candidate cannot be scored.
            UnavailableError: Processes are lost time and again.
        """
        parts = deque(
            part for part in divide(task, self._site, archs) if not wanted.isdisjoint(part)
        )
        running: dict[Future[list[Scores]], list[Architecture]] = {}
        losses = 0
        try:
            while parts or running:
                try:
                    while parts and len(running) < self._workforce.at_once:
                        running[self._executor.submit(score, self.home, task, parts[0])] = parts[0]
                        parts.popleft()
                    done, _ = wait(running, _POLL, FIRST_COMPLETED)
                    results = {future: future.result() for future in done}
                except self._workforce.losses as error:
                    losses += 1
                    if losses == _LOSSES:
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
        """Let go of the processes, which finish the candidates they are scoring."""
        self._workforce.close(self._executor, self.home.pool)
        release(self.home.pool)


class _Threads(ThreadPoolExecutor):
    """Threads of this process that compute side by side, each on one core.

    What PyTorch has for the whole process is put back at the end.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._kept = contextlib.ExitStack()
        self._kept.enter_context(keep_threads())
        super().__init__(count, "tftas-scores", initializer=stay_on_one_thread)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let go of the threads; see :class:`concurrent.futures.Executor`."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._kept.close()


def _start_worker(gpus: SimpleQueue[str] | None) -> None:
    # Ctrl-C reaches every process of the terminal; the search decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.get()
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the search, even if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
