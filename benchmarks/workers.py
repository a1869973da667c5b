"""How much faster `--workers 2` scores than one worker, and how much this machine allows.

Three ways in turn, round by round, because a shared machine drifts: one worker, two workers, and
two searches of one worker each that share nothing but the machine. The last is the ceiling.

    OMP_NUM_THREADS=1 python benchmarks/workers.py
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from typing import TYPE_CHECKING

from tftas_optuna import Execution, get_space, search

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

    from tftas_optuna.search.progress import SearchProgress

POPULATION = 50


class Enough(Exception):
    """The window is over."""


def measure(
    space: str, fidelity: str, workers: int, seconds: float, start: Barrier, rates: Queue[float]
) -> None:
    """Put the trials per second of a search, counted from the end of its first generation."""
    began: tuple[int, float] | None = None

    def callback(progress: SearchProgress) -> None:
        nonlocal began
        if began is None:
            if progress.n_done >= POPULATION:
                start.wait()
                began = progress.n_done, time.perf_counter()
            return
        passed = time.perf_counter() - began[1]
        if passed >= seconds:
            rates.put((progress.n_done - began[0]) / passed)
            raise Enough

    try:
        search(
            get_space(space),
            n_trials=100_000,
            population_size=POPULATION,
            fidelity=fidelity,
            execution=Execution(device="cpu", workers=workers),
            callback=callback,
        )
    except Enough:
        pass


def trials_per_second(space: str, fidelity: str, workers: list[int], seconds: float) -> float:
    """Run searches at the same time.

    Args:
        space: Name of a space.
        fidelity: How candidates are scored.
        workers: Workers of each search.
        seconds: Length of the window.

    Returns:
        The sum of their trials per second.
    """
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(len(workers))
    rates: Queue[float] = context.Queue()
    searches = [
        context.Process(target=measure, args=(space, fidelity, n, seconds, start, rates))
        for n in workers
    ]
    for one in searches:
        one.start()
    total = sum(rates.get() for _ in searches)
    for one in searches:
        one.join()
    return total


def main() -> None:
    """Print the rates of every round, then the means of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--fidelity", default="exact")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    speedups, ceilings = [], []
    print("trials/s: one worker, two workers, two searches; two workers/one, ceiling", flush=True)
    for _ in range(arguments.rounds):
        one, two, both = (
            trials_per_second(arguments.space, arguments.fidelity, workers, arguments.seconds)
            for workers in ([1], [2], [1, 1])
        )
        speedups.append(two / one)
        ceilings.append(both / one)
        print(f"{one:.2f} {two:.2f} {both:.2f}; {speedups[-1]:.2f} {ceilings[-1]:.2f}", flush=True)
    for name, ratios in ("two workers", speedups), ("ceiling", ceilings):
        print(
            f"{name}: mean {statistics.mean(ratios):.2f}, median {statistics.median(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
