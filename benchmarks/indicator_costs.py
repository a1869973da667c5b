"""What indicators cost: seconds per candidate, each alone and together, and their memory.

    OMP_NUM_THREADS=1 python benchmarks/indicator_costs.py [--space autoformer-tiny]
        [--n-images 8 64] [--out FILE]

Processor time of one thread, the smallest of a few candidates' after one that is not counted;
each indicator, and each group that shares a pass, in a process of its own, so that its peak memory
is its own. ``over`` is what of it was in use before the first score.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

ONES = ("dss", "synflow", "auto_prox_a")
FORWARD = ("naswot", "linear_regions", "expressivity", "meco")
LOSS = ("snip", "grad_norm", "fisher", "zico")
OTHERS = ("jacob_cov", "ntk_cond", "grasp", "trainability", "ffn_capacity")


class Job(NamedTuple):
    """What is measured."""

    space: str
    indicators: tuple[str, ...]
    fidelity: str
    n_images: int
    candidates: int


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(job: Job) -> dict[str, Any]:
    """Measure in this process."""
    import numpy as np
    import torch

    from tftas_optuna import get_space
    from tftas_optuna.indicators.basis import Basis
    from tftas_optuna.indicators.panel import Panel
    from tftas_optuna.metrics import get_indicator

    torch.set_num_threads(1)
    space = get_space(job.space)
    basis = Basis(
        space,
        seed=0,
        n_seeds=1,
        device="cpu",
        img_size=None,
        num_classes=None,
        dtype=torch.float32,
        n_images=job.n_images,
        data_dir=None,
    )
    panel = Panel(basis, [(get_indicator(name), job.fidelity) for name in job.indicators])
    panel.prepare()
    rng = np.random.default_rng(0)
    count = 256 if job.fidelity == "collapsed" else 1
    before = megabytes()
    seconds = []
    for _ in range(1 + job.candidates):
        archs = [space.sample(rng) for _ in range(count)]
        start = time.process_time()
        panel.by_seed(archs)
        seconds.append((time.process_time() - start) / count)
    return {
        **job._asdict(),
        "indicators": list(job.indicators),
        "seconds": min(seconds[1:]),
        "over_mb": before,
        "peak_mb": megabytes(),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }


def jobs(space: str, n_images: list[int], candidates: int) -> list[Job]:
    """List what is measured: those that see ones once, the others for every batch size."""
    groups = [*((name,) for name in ONES), ONES]
    found = [
        Job(space, group, fidelity, n_images[0], candidates)
        for fidelity in ("exact", "collapsed")
        for group in groups
    ]
    for n in n_images:
        seen = [*((name,) for name in (*FORWARD, *LOSS, *OTHERS)), FORWARD, LOSS[:3], LOSS]
        seen.append((*FORWARD, *LOSS[:3]))
        seen.append((*FORWARD, *LOSS, *OTHERS))
        found += [Job(space, group, "exact", n, candidates) for group in seen]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--n-images", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--candidates", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = []
    table = Table("indicators", "fidelity", "images", "seconds", "MB over", "MB peak")
    for job in jobs(args.space, args.n_images, args.candidates):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            row = pool.submit(measure, job).result()
        rows.append(row)
        sees = set(job.indicators).isdisjoint((*ONES, "ffn_capacity"))
        table.add_row(
            ", ".join(job.indicators),
            job.fidelity,
            str(job.n_images) if sees else "",
            f"{row['seconds']:.4f}",
            f"{row['over_mb']:.0f}",
            f"{row['peak_mb']:.0f}",
        )
        if args.out is not None:
            args.out.write_text(json.dumps(rows, indent=1) + "\n")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
