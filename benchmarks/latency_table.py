"""Error of the latency table against direct measurement, and a front that has to hold.

Measures the table of a space, then random candidates directly, in rounds (a machine's speed
drifts, and one long visit would see only a part of it). With ``--search`` it also searches DSS,
parameters and latency, and measures every network of the front directly: the front holds where
the order by latency does.

    python benchmarks/latency_table.py                                # one thread, CPU
    python benchmarks/latency_table.py --device cuda --batch-size 64
    python benchmarks/latency_table.py --search 1000 --out benchmarks/results/latency_table.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tftas_optuna import get_space
from tftas_optuna.architecture import Architecture
from tftas_optuna.costs import Target, get_cost
from tftas_optuna.costs.latency import device_name, measure_latency
from tftas_optuna.study.rescore import kendall_tau


def directly(archs: list[Architecture], target: Target, rounds: int) -> list[float]:
    """Measure architectures in rounds; give each one's median."""
    times: list[list[float]] = [[] for _ in archs]
    for _ in range(rounds):
        for arch, found in zip(archs, times, strict=True):
            found.append(measure_latency(arch, target, runs=3))
    return [median(found) for found in times]


def compare(table: list[float], direct: list[float]) -> dict[str, Any]:
    errors = np.abs(np.array(table) / np.array(direct) - 1)
    return {
        "table_ms": table,
        "direct_ms": direct,
        "median_error": float(np.median(errors)),
        "worst_error": float(errors.max()),
        "median_offset": float(np.median(np.array(table) / np.array(direct) - 1)),
        "kendall_tau": kendall_tau(table, direct),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()

    space = get_space(args.space)
    target = Target(device=args.device, threads=args.threads, batch_size=args.batch_size)
    start = time.perf_counter()
    meter = get_cost("latency").open(space, target, None)
    seconds = time.perf_counter() - start
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(args.candidates)]
    start = time.perf_counter()
    table = [meter(arch) for arch in archs]
    lookup = 1e6 * (time.perf_counter() - start) / len(archs)
    result = {
        "space": space.name,
        "device": device_name(args.device),
        "threads": args.threads,
        "batch_size": args.batch_size,
        "table_seconds": seconds,
        "lookup_us": lookup,
        **compare(table, directly(archs, target, args.rounds)),
    }
    print(
        f"{space.name} on {result['device']}, {args.threads} thread(s), batch of"
        f" {args.batch_size}: table in {seconds:.0f} s, lookup {lookup:.0f} us;"
        f" {len(archs)} candidates: median error {result['median_error']:.1%}, worst"
        f" {result['worst_error']:.1%}, offset {result['median_offset']:+.1%}, Kendall tau"
        f" {result['kendall_tau']:.3f}"
    )
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
