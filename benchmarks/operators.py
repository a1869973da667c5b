"""Operators that PyTorch starts for a batch of candidates, and what padding to one shape costs.

A GPU waits between operators of a small batch, as Python chooses each; their number hardly
depends on the machine, unlike milliseconds. Operators that others call are not counted. *Padding*
is the ratio of multiply-adds of the linear layers: those of a pass of fixed shape, which a GPU
records, to those that the candidates in it have, on average over sampled ones.

    python benchmarks/operators.py                 # one thread, CPU
    python benchmarks/operators.py --spaces autoformer-tiny --batches 1 8 --device cuda
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tftas_optuna import Scorer, get_space
from tftas_optuna.spaces import space_names

# Exact scores of this space alone, one at a time: on a CPU a batch of them runs one by one.
EXACT = "autoformer-tiny"


def operators(run: Callable[[], object]) -> int:
    """Count the operators that a program starts itself."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        run()
    events = profiler.events() or ()
    return sum(e.cpu_parent is None and e.device_type == DeviceType.CPU for e in events)


def milliseconds(run: Callable[[], object], device: str, repeats: int) -> float:
    """Measure the best of a few: processor time on a CPU, time until a GPU is done."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return 1000 * min(times)


def measure(name: str, fidelity: str, batches: list[int], device: str) -> list[dict[str, Any]]:
    """Count and time batches of one space, up to the largest that runs in one pass."""
    torch.set_num_threads(1)
    archs = sample(name, max(batches))
    scorer = Scorer(name, fidelity=fidelity, device=device)
    rows = []
    for count in (n for n in batches if n <= scorer.batch_size):

        def run(count: int = count) -> object:
            return scorer.batch(archs[:count])

        run()
        row = {"space": name, "fidelity": fidelity, "candidates": count}
        row["ms"] = milliseconds(run, device, 7 if count < 64 else 3) / count
        rows.append({**row, "operators": operators(run)})
    return rows


def padding(name: str, fidelity: str, candidates: int) -> float:
    """Return the multiply-adds of linear layers in a pass of fixed shape over the candidates'."""
    supernet = Scorer(name, device="cpu").supernet
    traces: dict[Hashable, list[Any]] = {}
    frames, owns = [], []
    for arch in sample(name, candidates):
        fixed = supernet.fixed_pass([arch], fidelity, 1)
        assert fixed is not None
        if fixed.key not in traces:
            with torch.inference_mode():
                traces[fixed.key] = fixed.run(fixed.sizes)
        frame = own = 0
        for trace in traces[fixed.key]:
            layers, _, tokens, into = trace.x.shape
            frame += layers * tokens * into * trace.delta.shape[3]
            own += tokens * sum(out * n for ((out, n),) in fixed.shapes(trace))
        frames.append(frame), owns.append(own)
    return mean(frames) / mean(owns)


def sample(name: str, count: int) -> list[Any]:
    """Draw candidates of a space."""
    space, rng = get_space(name), np.random.default_rng(0)
    return [space.sample(rng) for _ in range(count)]


def show(rows: list[dict[str, Any]], paddings: list[dict[str, Any]], title: str) -> None:
    """Print a table with a row for each space and fidelity."""
    batches = sorted({row["candidates"] for row in rows})
    heads = [f"{kind}, {n}" for kind in ("operators", "ms each") for n in batches]
    table = Table("space", "", *heads, "padding", title=title)
    by_key = {(r["space"], r["fidelity"], r["candidates"]): r for r in rows}
    for pad in paddings:
        of = [by_key.get((pad["space"], pad["fidelity"], n)) for n in batches]
        cells = ["" if row is None else f"{row['operators']:,}" for row in of]
        cells += ["" if row is None else f"{row['ms']:.3g}" for row in of]
        table.add_row(pad["space"], pad["fidelity"], *cells, f"{pad['padding']:.2f}")
    Console(width=max(190, Console().width)).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spaces", nargs="+", default=list(space_names()))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 20, 64, 256])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--candidates", type=int, default=256, help="sampled to measure padding")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    paddings = []
    for name in args.spaces:
        # What a profile held is given back with its process.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            for fidelity in ("collapsed", "exact"):
                if fidelity == "collapsed" or name == EXACT:
                    batches = args.batches if fidelity == "collapsed" else [1]
                    rows += pool.submit(measure, name, fidelity, batches, args.device).result()
                ratio = pool.submit(padding, name, fidelity, args.candidates).result()
                paddings.append({"space": name, "fidelity": fidelity, "padding": ratio})
        print(f"{name}: done", file=sys.stderr, flush=True)
    device = "CPU, one thread" if args.device == "cpu" else torch.cuda.get_device_name()
    title = f"{device}, PyTorch {torch.__version__}"
    if args.out:
        found = {"machine": title, "operators": rows, "padding": paddings}
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    show(rows, paddings, title)


if __name__ == "__main__":
    main()
