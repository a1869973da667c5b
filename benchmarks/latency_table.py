"""Error of the latency table against direct measurement, and whether a front holds under it.

Searches DSS, parameters and latency, which measures the table of the space first. Then random
candidates, and the members of the front, are measured directly, in rounds. A shared machine runs
faster at one time than at another, and those are minutes apart: the errors are of latencies
relative to the reference network of the table, measured between all others, then as now. The error
of plain milliseconds is given too; what it has more is the machine's drift.

    python benchmarks/latency_table.py --out benchmarks/results/latency_table.json
    python benchmarks/latency_table.py --device cuda --batch-size 64
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tftas_optuna import Candidate, Deployment, Execution, get_space, pareto_front, search
from tftas_optuna.architecture import Architecture
from tftas_optuna.costs import device_name
from tftas_optuna.costs.latency import RelativeClock, reference_network
from tftas_optuna.metrics import Meters, Target
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.study.record import meter_records, read_settings


def directly(
    archs: list[Architecture], clock: RelativeClock, rounds: int
) -> tuple[list[float], list[float]]:
    """Measure architectures in rounds.

    Returns:
        Each one's median latency over the reference's, and in milliseconds.
    """
    found = [clock.round(archs) for _ in range(rounds)]
    relative = [median(ratios) for ratios in zip(*found, strict=True)]
    return relative, [clock.reference_ms * ratio for ratio in relative]


def compare(table: list[float], direct: list[float], plain: list[float]) -> dict[str, Any]:
    """Compare the table's milliseconds with those of the same pace, and with plain ones."""
    errors = np.array(table) / np.array(direct) - 1
    return {
        "table_ms": table,
        "direct_ms": direct,
        "plain_ms": plain,
        "median_error": float(np.median(np.abs(errors))),
        "worst_error": float(np.abs(errors).max()),
        "median_offset": float(np.median(errors)),
        "plain_median_error": float(np.median(np.abs(np.array(table) / np.array(plain) - 1))),
        "kendall_tau": kendall_tau(table, direct),
    }


def holding(front: list[Candidate], direct: list[float]) -> dict[str, Any]:
    """Count who stays undominated when measured latencies stand in for the table's.

    Two measurements of one network differ too: latencies this close are taken as equal.
    """
    noise = 0.1

    def undominated(slack: float) -> int:
        return sum(
            not any(
                other.values["dss"] >= one.values["dss"]
                and other.n_params <= one.n_params
                and b * (1 + slack) < a
                for other, b in zip(front, direct, strict=True)
                if other is not one
            )
            for one, a in zip(front, direct, strict=True)
        )

    return {
        "undominated": undominated(0.0),
        "undominated_within_noise": undominated(noise),
        "noise": noise,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--front", type=int, default=30, help="members of the front to measure")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()

    space = get_space(args.space)
    target = Target(device=args.device, threads=args.threads, batch_size=args.batch_size)
    start = time.perf_counter()
    study = search(
        space,
        n_trials=args.trials,
        objectives=("dss", "n_params", "latency"),
        fidelity="collapsed",
        n_exact=0,
        execution=Execution(device=args.device),
        deployment=Deployment(batch_size=args.batch_size, threads=args.threads),
    )
    seconds = time.perf_counter() - start
    settings, records = read_settings(study), meter_records(study)
    meters = Meters(settings.costs, space, settings.target, records)
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(args.candidates)]
    start = time.perf_counter()
    table = [meters.cost("latency", arch) for arch in archs]
    lookup = 1e6 * (time.perf_counter() - start) / len(archs)
    front = pareto_front(study)
    some = [front[i] for i in np.unique(np.linspace(0, len(front) - 1, args.front).astype(int))]
    clock = RelativeClock(reference_network(space), target)
    relative, plain = directly(archs + [found.architecture for found in some], clock, args.rounds)
    reference_ms = records["latency"]["reference"]
    direct = [reference_ms * ratio for ratio in relative]
    result = {
        "space": space.name,
        "device": device_name(args.device),
        "threads": args.threads,
        "batch_size": args.batch_size,
        "search_seconds": seconds,
        "drift": clock.reference_ms / reference_ms - 1,
        "lookup_us": lookup,
        "candidates": compare(table, direct[: len(archs)], plain[: len(archs)]),
        "front": {
            "size": len(front),
            **compare(
                [found.values["latency"] for found in some],
                direct[len(archs) :],
                plain[len(archs) :],
            ),
            **holding(some, direct[len(archs) :]),
        },
    }
    print(
        f"{space.name} on {result['device']}, {args.threads} thread(s), batch of"
        f" {args.batch_size}: search with its table {seconds:.0f} s, lookup {lookup:.0f} us,"
        f" drift since then {result['drift']:+.1%}"
    )
    for name in ("candidates", "front"):
        found = result[name]
        print(
            f"{name}: {len(found['direct_ms'])} measured, median error"
            f" {found['median_error']:.1%}, worst {found['worst_error']:.1%}, offset"
            f" {found['median_offset']:+.1%}, plain {found['plain_median_error']:.1%}, Kendall tau"
            f" {found['kendall_tau']:.3f}"
        )
    print(
        f"with measured latencies {result['front']['undominated']} of {len(some)} stay"
        f" undominated, {result['front']['undominated_within_noise']} where"
        f" {result['front']['noise']:.0%} of latency is no difference"
    )
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
