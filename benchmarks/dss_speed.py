"""Milliseconds per DSS score, against the matrix products that it needs and against a textbook.

``floor`` is the time of nothing but the matrix products of the definition: forward, gradients of
the inputs, gradients of the MLP weights, in the same shapes and in the same run. ``textbook`` is
the float64 version of the tests (autograd on the weights, full SVDs), ``model`` the route of
``score_model``; both take the candidate of middle size, and so does their ratio to ``exact``.
Every space runs in a process of its own, so that its peak memory is its own.

    python benchmarks/dss_speed.py                 # one thread, CPU
    python benchmarks/dss_speed.py --spaces pit-tiny pit-xs pit-small --many 0
    python benchmarks/dss_speed.py --device cuda
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

SPACES = ("autoformer-tiny", "autoformer-small", "autoformer-base")


class Job(NamedTuple):
    """What is measured.

    Attributes:
        space: The space.
        device: Where.
        threads: Threads of a CPU.
        many: Collapsed candidates in a row; 0 for none.
        batches: Sizes of collapsed batches.
        exact_batches: Sizes of exact batches; the floor is that of as many as the largest.
    """

    space: str
    device: str
    threads: int
    many: int
    batches: list[int]
    exact_batches: list[int]


def measure(job: Job) -> dict[str, Any]:
    """Measure one space in this process."""
    name, device, threads, many, batches, exact_batches = job
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import numpy as np
    import textbook
    import textbook_timm
    import torch

    from tftas_optuna import Scorer, get_space, score_model

    torch.set_num_threads(threads)
    space = get_space(name)
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(max(256, *batches, *exact_batches))]
    few = archs[: max(exact_batches)]
    middle = sorted(few, key=lambda arch: space.costs(arch).n_params)[len(few) // 2]
    result: dict[str, Any] = {"space": name, "device": device, "threads": threads}
    if device != "cpu":
        result["device"] = torch.cuda.get_device_name()

    def timed(run: Callable[[], object], repeats: int = 3) -> float:
        """Measure the best time of a few, in milliseconds."""
        run()
        best = float("inf")
        for _ in range(repeats):
            if device != "cpu":
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        return 1000 * best

    collapsed = Scorer(space, fidelity="collapsed", device=device)
    if many:
        result["many"] = endurance(collapsed, space, many)
    at_once = {n: timed(lambda n=n: collapsed.batch(archs[:n]), 5) / n for n in batches}
    result["collapsed_ms_by_batch"] = at_once
    result["collapsed_ms"] = at_once[min(batches, key=lambda n: abs(n - 256))]
    scorer = collapsed.sharing("dss")
    exact = {n: timed(lambda n=n: scorer.batch(archs[:n])) / n for n in exact_batches}
    result["exact_ms_by_batch"] = exact
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device != "cpu":
        result["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
    floors, alone = [], []
    for arch in few:
        floors.append(timed(products(arch, device)))
        if device == "cpu":
            # There a batch runs one by one, too; by turns, a slow while is one of both.
            alone.append(timed(lambda arch=arch: scorer(arch)))
    result["floor_ms"] = mean(floors)
    result["exact_ms"] = mean(alone) if alone else exact[len(few)]
    model = scorer.subnet(middle)
    result["exact_middle_ms"] = timed(lambda: scorer(middle))
    result["model_ms"] = timed(lambda: score_model(model), 1)
    start = time.perf_counter()
    if space.family == "autoformer":
        textbook.dss(middle, scorer.supernet.state_dict, 224)
    else:
        textbook_timm.dss(model.cpu(), textbook_timm.Case(224))
    result["textbook_ms"] = 1000 * (time.perf_counter() - start)
    return result


def blocks(arch: Any) -> list[tuple[int, int, int, int, int, int]]:
    """Return tokens, width, heads, head width, MLP width and embeddings of every block."""
    if arch.family == "pit":
        stages = zip(arch.grids(224), arch.widths, arch.num_heads, arch.hidden_dims, strict=True)
        return [
            (side**2 + 1, width, heads, arch.base_dim, hidden, 0)
            for (side, width, heads, hidden), depth in zip(stages, arch.depth, strict=True)
            for _ in range(depth)
        ]
    embeddings = 2 * (2 * arch.max_relative_position + 2)
    return [
        (197, arch.embed_dim, heads, arch.head_dim, hidden, embeddings)
        for heads, hidden in zip(arch.num_heads, arch.hidden_dim, strict=True)
    ]


def products(arch: Any, device: str) -> Callable[[], object]:
    """Prepare the matrix products that one exact score needs, and nothing else."""
    import torch

    made: dict[tuple[int, ...], torch.Tensor] = {}

    def some(*shape: int) -> torch.Tensor:
        if shape not in made:
            made[shape] = torch.randn(shape, device=device)
        return made[shape]

    pairs = []
    for tokens, width, heads, head_dim, hidden, embeddings in blocks(arch):
        inner = heads * head_dim
        linears = ((3 * inner, width), (width, inner), (hidden, width), (width, hidden))
        for out, into in linears:
            pairs.append((some(tokens, into), some(out, into).T))
            pairs.append((some(tokens, out), some(out, into)))
        for out, into in linears[2:]:
            pairs.append((some(tokens, out).T, some(tokens, into)))
        q, pair = some(heads, tokens, head_dim), some(heads, tokens, tokens)
        pairs += [(q, q.transpose(1, 2)), (pair, q)]  # logits, values
        pairs += [(q, q.transpose(1, 2)), (pair.transpose(1, 2), q)]  # their gradients
        pairs += [(pair, q), (pair.transpose(1, 2), q)]
        if embeddings:  # relative positions, both ways
            relative, weights = some(embeddings, head_dim), some(heads, tokens, embeddings)
            pairs += 2 * [(q, relative.T), (weights, relative)]
    pairs.append((some(1, width), some(1000, width).T))
    return lambda: [a @ b for a, b in pairs]


def endurance(scorer: Any, space: Any, many: int) -> dict[str, Any]:
    """Score many candidates in a row; processor time and memory by tenths."""
    import numpy as np

    rng = np.random.default_rng(1)
    times, memory = [], []
    for _ in range(10):
        spent = 0.0
        for start in range(0, many // 10, 10_000):
            archs = [space.sample(rng) for _ in range(min(10_000, many // 10 - start))]
            before = time.process_time()
            scorer.batch(archs)
            spent += time.process_time() - before
        times.append(1000 * spent / (many // 10))
        memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        print(f"{space.name}: {times[-1]:.3f} ms each, {memory[-1]:.0f} MB", file=sys.stderr)
    return {"ms_by_tenth": times, "peak_mb_by_tenth": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spaces", nargs="+", default=list(SPACES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--many", type=int, default=10_000, help="candidates scored in a row")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256, 1024])
    parser.add_argument("--exact-batches", type=int, nargs="+", help="16; on CUDA 256")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()
    exact = args.exact_batches or [16 if args.device == "cpu" else 256]

    results = []
    for name in args.spaces:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            job = Job(name, args.device, args.threads, args.many, args.batches, exact)
            results.append(pool.submit(measure, job).result())
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")

    print(f"{results[0]['device']}, {args.threads} thread(s): milliseconds per candidate")
    columns = ("floor", "exact", "collapsed", "model", "textbook")
    print(f"{'space':18}" + "".join(f"{c:>11}" for c in columns)
          + f"{'exact/floor':>13}{'exact/coll.':>12}{'textb./exact':>13}{'MB':>7}")  # fmt: skip
    for r in results:
        cells = "".join(f"{r[f'{c}_ms']:11.2f}" for c in columns)
        ratios = (
            f"{r['exact_ms'] / r['floor_ms']:13.2f}{r['exact_ms'] / r['collapsed_ms']:12.0f}"
            f"{r['textbook_ms'] / r['exact_middle_ms']:13.1f}"
        )
        print(f"{r['space']:18}{cells}{ratios}{r['peak_mb']:7.0f}")
    print("\ncollapsed candidates per second by batch size")
    print(f"{'space':18}" + "".join(f"{n:>9}" for n in args.batches))
    for r in results:
        rates = (1000 / ms for ms in r["collapsed_ms_by_batch"].values())
        print(f"{r['space']:18}" + "".join(f"{rate:9.0f}" for rate in rates))
    for r in results if args.many else []:
        ms, mb = r["many"]["ms_by_tenth"], r["many"]["peak_mb_by_tenth"]
        print(
            f"{r['space']}: {args.many} collapsed scores in a row, {ms[0]:.2f} ms each in the"
            f" first tenth, {ms[-1]:.2f} in the last; memory {mb[0]:.0f} MB, then {mb[-1]:.0f}"
        )


if __name__ == "__main__":
    main()
