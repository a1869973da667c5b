"""Steps that ask how right, fast and large scores on a GPU are."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from plan import Found, Plan, Skipped, sample, spaces

# Worst relative error against float64 that is right, by precision of matrix products.
TOLERANCE = {"highest": 1e-4, "high": 1e-2}
# Candidates in a batch. Many PiTs need much memory.
COUNTS = {"exact": (1, 8, 64), "collapsed": (1, 8, 64, 256, 1024)}


def agreement(plan: Plan) -> Iterator[Found]:
    """Compare float32 on the device with float64 on the CPU."""
    from tftas_optuna import Scorer
    from tftas_optuna.ranks import kendall_tau

    for name in spaces(plan):
        space, archs = sample(name, plan.of(8, 3))
        for fidelity in ("exact", "collapsed"):
            slow = Scorer(space, fidelity=fidelity, device="cpu", dtype=torch.float64)
            truth = slow.batch(archs)
            for precision, tolerance in TOLERANCE.items():
                scorer = Scorer(
                    space, fidelity=fidelity, device=plan.device, matmul_precision=precision
                )
                own = record(scorer, plan, False).batch(archs)
                scores = record(scorer, plan, True).batch(archs)
                worst = farthest(scores, truth)
                data = {
                    "space": name,
                    "fidelity": fidelity,
                    "matmul_precision": precision,
                    "candidates": len(archs),
                    "worst_error": worst,
                    "worst_error_own_shapes": farthest(own, truth),
                    "kendall_tau": kendall_tau(scores, truth),
                    "worst_repeated": farthest(scorer.batch(archs), scores),
                    "worst_alone": farthest([scorer(arch) for arch in archs], scores),
                }
                yield Found(
                    f"{name} {fidelity} {precision}: worst error {worst:.1e}, of own shapes"
                    f" {data['worst_error_own_shapes']:.1e}, tau"
                    f" {data['kendall_tau']:.3f}; the same again differs by"
                    f" {data['worst_repeated']:.0e}, alone by {data['worst_alone']:.0e}",
                    data,
                    worst <= tolerance,
                )


def record(scorer: Any, plan: Plan, wanted: bool) -> Any:
    """Let a scorer record its passes, or run them in the candidates' own shapes."""
    from tftas_optuna.supernet import GraphReplay
    from tftas_optuna.supernet.replay import PlainReplay

    for engine in chain.from_iterable(scorer._panel._engines):
        engine._replay = (GraphReplay if plan.on_cuda else PlainReplay) if wanted else None
    return scorer


def farthest(scores: list[float], others: list[float]) -> float:
    """Return the worst relative difference."""
    return max(abs(a / b - 1) for a, b in zip(scores, others, strict=True))


def speed(plan: Plan) -> Iterator[Found]:
    """Measure as ``benchmarks/dss_speed.py`` does, by batch, and the textbook on the device."""
    import textbook
    from dss_speed import Job, measure

    from tftas_optuna import Scorer

    for name in spaces(plan):
        if plan.on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        largest = plan.of(64 if name.startswith("pit") else 256, 8)
        found = measure(Job(name, plan.device, 1, 0, [largest], [plan.of(64, 2)]))
        yield Found(
            f"{name}: exact {found['exact_ms']:.3g} ms, collapsed {found['collapsed_ms']:.3g};"
            f" floor {found['floor_ms']:.3g}, score_model {found['model_ms']:.0f}, textbook on"
            f" the CPU {found['textbook_ms']:.0f}, {found['textbook_ms'] / found['exact_ms']:.0f}"
            " times exact in batches",
            found,
        )
        for fidelity, counts in COUNTS.items():
            quick = 8 if fidelity == "collapsed" else 1
            most = plan.of(64 if name.startswith("pit") else 1024, quick)
            yield by_batch(plan, name, fidelity, [n for n in counts if n <= most])
    if not plan.on_cuda:
        return
    space, archs = sample("autoformer-tiny", 1)
    weights = Scorer(space, device="cpu").supernet.state_dict
    there = {name: weight.to(plan.device) for name, weight in weights.items()}
    with torch.device(plan.device):
        start = time.perf_counter()
        textbook.dss(archs[0], there, 224)
    ms = 1000 * (time.perf_counter() - start)
    yield Found(f"autoformer-tiny: textbook on the device {ms:.0f} ms", {"textbook_there_ms": ms})


def by_batch(plan: Plan, name: str, fidelity: str, counts: list[int]) -> Found:
    """Time batches with recorded passes and without, and what it takes to record them."""
    from tftas_optuna import Scorer

    space, archs = sample(name, max(counts))

    def seconds(run: Callable[[], object]) -> float:
        start = time.perf_counter()
        run()
        if plan.on_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start

    data: dict[str, Any] = {"space": name, "fidelity": fidelity}
    for kind in ("recorded", "own_shapes"):
        scorer = Scorer(space, fidelity=fidelity, device=plan.device)
        scorer._panel.prepare()
        record(scorer, plan, kind == "recorded")
        first: dict[int, float] = {}
        ms: dict[int, float] = {}
        for count in counts:
            run = partial(scorer.batch, archs[:count])
            first[count] = seconds(run)
            ms[count] = 1000 * min(seconds(run) for _ in range(plan.of(5, 1))) / count
        data |= {f"{kind}_ms": ms, f"{kind}_first_s": first}
    listed = ", ".join(
        f"{n}: {data['recorded_ms'][n]:.3g} / {data['own_shapes_ms'][n]:.3g}" for n in counts
    )
    recording = ", ".join(f"{s:.2g}" for s in data["recorded_first_s"].values())
    return Found(
        f"{name} {fidelity}: ms by batch, recorded / of own shapes, {listed}; the first batches"
        f" of each size, which are recorded, {recording} s; the first score of own shape"
        f" {data['own_shapes_first_s'][counts[0]]:.2g} s",
        data,
    )


def memory(plan: Plan) -> Iterator[Found]:
    """Measure the peak of full batches, against the estimate, and let memory run out."""
    from tftas_optuna import Scorer

    if not plan.on_cuda:
        raise Skipped("only the memory of CUDA devices is counted")
    for name in spaces(plan):
        for fidelity in ("exact", "collapsed"):
            full = 1024 if fidelity == "collapsed" and name.startswith("autoformer") else 64
            space, archs = sample(name, plan.of(full, 8))
            torch.cuda.empty_cache()
            scorer = Scorer(space, fidelity=fidelity, device=plan.device)
            record(scorer, plan, False).batch(archs[:1])
            held = torch.cuda.memory_allocated(plan.device)
            torch.cuda.reset_peak_memory_stats(plan.device)
            scorer.batch(archs)
            peak = torch.cuda.max_memory_allocated(plan.device) - held
            together = max(map(len, scorer.supernet.groups(archs, torch.device(plan.device).type)))
            together = min(together, scorer.batch_size)
            estimate = together * scorer.supernet.pass_bytes(fidelity)
            recorded = recorded_bytes(record(scorer, plan, True), archs)
            data = {
                "space": name,
                "fidelity": fidelity,
                "together": together,
                "weights_mb": held / 2**20,
                "peak_mb": peak / 2**20,
                "estimate_mb": estimate / 2**20,
                "recorded_mb": {n: held / 2**20 for n, held in recorded.items()},
            }
            yield Found(
                f"{name} {fidelity}: {together} at once take {data['peak_mb']:.0f} MB (estimate"
                f" {data['estimate_mb']:.0f}) beside {data['weights_mb']:.0f} MB; recorded passes"
                f" hold "
                + ", ".join(f"{n}: {mb:.0f}" for n, mb in data["recorded_mb"].items())
                + " MB",
                data,
            )
    # Room for eight candidates.
    space, archs = sample("autoformer-tiny", 64)
    scorer = Scorer(space, device=plan.device)
    whole, before = scorer.batch(archs), scorer.batch_size
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved(plan.device) + 8 * scorer.supernet.pass_bytes("exact")
    total = torch.cuda.get_device_properties(plan.device).total_memory
    torch.cuda.set_per_process_memory_fraction(allowed / total, plan.device)
    worst = farthest(scorer.batch(archs), whole)
    yield Found(
        f"out of memory: {before} at once became {scorer.batch_size}, scores differ by"
        f" {worst:.0e}",
        {"before": before, "after": scorer.batch_size, "worst": worst},
        scorer.batch_size < before and worst < TOLERANCE["highest"],
    )


def recorded_bytes(scorer: Any, archs: list[Any]) -> dict[int, int]:
    """Return what recorded passes hold, after each batch size that adds one."""
    torch.cuda.empty_cache()
    before, held = torch.cuda.memory_reserved(), {}
    for count in scorer.supernet.fixed_counts[scorer.fidelity]:
        if count <= len(archs):
            scorer.batch(archs[:count])
            torch.cuda.empty_cache()
            held[count] = torch.cuda.memory_reserved() - before
    return held


def profile(plan: Plan) -> Iterator[Found]:
    """Name the operations that take the time of a pass, and the lines that wait."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiling

    from tftas_optuna import Scorer

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * plan.on_cuda
    for fidelity, count in (("exact", plan.of(16, 2)), ("collapsed", plan.of(256, 8))):
        space, archs = sample("autoformer-tiny", count)
        scorer = Scorer(space, fidelity=fidelity, device=plan.device)
        scorer.batch(archs)
        start = time.perf_counter()
        scorer.batch(archs)
        ms = 1000 * (time.perf_counter() - start)
        with profiling(activities=activities) as profiler:
            scorer.batch(archs)
        kind = "self_device_time_total" if plan.on_cuda else "self_cpu_time_total"
        # Kernels are listed beside the operations that started them.
        events = [e for e in profiler.key_averages() if e.device_type == DeviceType.CPU]
        times = {event.key: getattr(event, kind) / 1000 for event in events}
        most = sorted(times, key=times.__getitem__, reverse=True)[:12]
        waits = places_of_waits(partial(scorer.batch, archs)) if plan.on_cuda else {}
        data = {
            "fidelity": fidelity,
            "candidates": count,
            "ms": ms,
            "busy_ms": sum(times.values()),
            "operations_ms": {key: times[key] for key in most},
            "waits": waits,
        }
        shares = ", ".join(f"{key[:40]} {times[key]:.1f}" for key in most[:5])
        yield Found(
            f"{fidelity}, {count}: {ms:.1f} ms, busy {data['busy_ms']:.1f}; most: {shares};"
            f" {sum(waits.values())} waits",
            data,
        )


def places_of_waits(run: Callable[[], object]) -> dict[str, int]:
    """Count by line how often the program waits for the device."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "synchroniz" in str(w.message)]
    return dict(Counter(f"{Path(w.filename).name}:{w.lineno}" for w in waits).most_common())
