"""What indicators cost: seconds per candidate, each alone and together, and their memory.

    OMP_NUM_THREADS=1 python benchmarks/indicator_costs.py [--space autoformer-tiny]
        [--n-images 8 64] [--out FILE]

Processor time of one thread, the smallest of a few candidates' after one that is not counted;
each indicator, and each group that shares a pass, in a process of its own, so that its peak memory
is its own. Prints the tables of ``docs/benchmarks.md``; with --out every row is kept as it comes,
and the same command goes on where one was cut off.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

ONES = ("dss", "synflow", "auto_prox_a")
SUMS = ("dss", "synaptic_diversity", "synaptic_saliency")
FORWARD = ("naswot", "linear_regions", "expressivity", "meco")
LOSS = ("snip", "grad_norm", "fisher")
OTHERS = ("jacob_cov", "ntk_cond", "grasp", "trainability", "zico", "swap", "l_swag")


class Job(NamedTuple):
    """What is measured; no images where none are seen."""

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
    from tftas_optuna.metrics import get_indicator
    from tftas_optuna.scoring.basis import Basis
    from tftas_optuna.scoring.conditions import Conditions, ImageSource
    from tftas_optuna.scoring.panel import Panel

    torch.set_num_threads(1)
    space = get_space(job.space)
    images = ImageSource.of(job.n_images or None)
    basis = Basis(Conditions.of(space, images=images), "cpu")
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
    """List what is measured: those that see no batch once, the others for every batch size."""
    found = [Job(space, ("ffn_capacity",), "exact", 0, candidates)]
    found += [
        Job(space, group, fidelity, 0, candidates)
        for fidelity in ("exact", "collapsed")
        for group in (*((name,) for name in dict.fromkeys((*ONES, *SUMS))), ONES, SUMS)
    ]
    for n in n_images:
        alone = [(name,) for name in (*FORWARD, *LOSS, *OTHERS)]
        groups = [*alone, FORWARD, LOSS, (*FORWARD, *LOSS), (*FORWARD, *LOSS, *OTHERS)]
        found += [Job(space, group, "exact", n, candidates) for group in groups]
    return found


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a row is known by."""
    return tuple(tuple(v) if isinstance(v := row[name], list) else v for name in Job._fields)


def load(path: Path | None) -> list[dict[str, Any]]:
    """Read the rows of a run that was cut off."""
    if path is None or not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows; the file is whole at any moment."""
    scratch = path.with_name(f".{path.name}.part")
    scratch.write_text(json.dumps(rows, indent=1) + "\n")
    scratch.replace(path)


def alone(rows: list[dict[str, Any]]) -> str:
    """Write the table of each indicator alone, as Markdown: the cheapest first."""
    sizes = sorted({row["n_images"] for row in rows} - {0})
    heads = [f"{n} images" for n in sizes]
    lines = [
        "| indicator | "
        + " | ".join((*heads, "collapsed", *(f"peak, {h}" for h in heads)))
        + " |",
        "|---" * (2 + 2 * len(sizes)) + "|",
    ]
    singles = [row for row in rows if len(row["indicators"]) == 1]
    exact = [row for row in singles if row["fidelity"] == "exact"]
    collapsed = {row["indicators"][0]: row for row in singles if row["fidelity"] == "collapsed"}
    for name in dict.fromkeys(r["indicators"][0] for r in sorted(exact, key=seconds)):
        of = {row["n_images"]: row for row in exact if row["indicators"] == [name]}
        found = [of.get(0) or of.get(n) for n in sizes]
        times = [milliseconds(row) for row in (*found, collapsed.get(name))]
        peaks = ["–" if row is None else f"{row['peak_mb'] / 1000:.1f} GB" for row in found]
        lines.append(f"| `{name}` | " + " | ".join((*times, *peaks)) + " |")
    return "\n".join(lines)


def together(rows: list[dict[str, Any]]) -> str:
    """Write the table of those that share passes, as Markdown."""
    lines = ["| together | images | fidelity | ms | sum of each alone |", "|---|---|---|---|---|"]
    single = {key({**r, "candidates": 0}): r for r in rows if len(r["indicators"]) == 1}
    for row in rows:
        names = row["indicators"]
        if len(names) > 1:
            parts = [single.get(key({**row, "indicators": [n], "candidates": 0})) for n in names]
            whole = None if None in parts else sum(part["seconds"] for part in parts if part)
            cells = (
                ", ".join(f"`{name}`" for name in names),
                str(row["n_images"] or "–"),
                row["fidelity"],
                milliseconds(row),
                "–" if whole is None else milliseconds({"seconds": whole}),
            )
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seconds(row: dict[str, Any]) -> float:
    return float(row["seconds"])


def milliseconds(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    ms = 1000 * row["seconds"]
    return f"{ms:,.0f}" if ms >= 20 else f"{ms:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--n-images", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--candidates", type=int, default=3)
    parser.add_argument("--out", type=Path, help="kept after each row; a run goes on with it")
    args = parser.parse_args()
    wanted = jobs(args.space, args.n_images, args.candidates)
    rows = load(args.out)
    known = {key(row) for row in rows}
    for number, job in enumerate(wanted, start=1):
        if key(job._asdict()) in known:
            continue
        print(f"{number}/{len(wanted)} {', '.join(job.indicators)}", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            rows.append(pool.submit(measure, job).result())
        if args.out is not None:
            save(args.out, rows)
    # Rows of other spaces and sizes may lie in the same file.
    order = [key(job._asdict()) for job in wanted]
    shown = sorted((row for row in rows if key(row) in order), key=lambda r: order.index(key(r)))
    print(alone(shown), together(shown), sep="\n\n")


if __name__ == "__main__":
    main()
