"""Steps that use a GPU as users do."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plan import ROOT, Found, Plan, Skipped, sample


def tests(plan: Plan) -> Iterator[Found]:
    """Run the tests that are marked ``cuda``."""
    import pytest

    class Count:
        outcomes: Counter[str] = Counter()

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.outcome != "passed":
                self.outcomes[report.outcome] += 1

    marked = [p for p in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.cuda" in p.read_text()]
    code = pytest.main(
        [*map(str, marked), "-m", "cuda", "-p", "no:cacheprovider", "--tb=short"], [Count()]
    )
    outcomes = dict(Count.outcomes)
    line = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    if code == 0 and not outcomes.get("passed"):
        raise Skipped(line)
    yield Found(line, outcomes, code == 0)


def search(plan: Plan) -> Iterator[Found]:
    """Search twice with one seed, and on the CPU."""
    from tftas_optuna import Execution
    from tftas_optuna import search as run_search

    space, _ = sample("autoformer-tiny", 0)
    sizes = {"collapsed": plan.of(1000, 30), "exact": plan.of(200, 4)}

    def once(fidelity: str, device: str) -> tuple[dict[str, Any], list[Any]]:
        last = None

        def watch(progress: Any) -> None:
            nonlocal last
            last = progress

        start = time.perf_counter()
        study = run_search(
            space,
            n_trials=sizes[fidelity],
            sampler="screened-nsgaii",
            fidelity=fidelity,
            n_exact=0,
            execution=Execution(device=device),
            callback=watch,
        )
        seconds = time.perf_counter() - start
        scoring = 1000 * last.scoring_seconds / sizes[fidelity]
        trials = [(trial.params, trial.values) for trial in study.trials]
        return {"seconds": seconds, "scoring_ms": scoring}, trials

    for fidelity, n_trials in sizes.items():
        first, trials = once(fidelity, plan.device)
        second, others = once(fidelity, plan.device)
        same = next(
            (i for i, (a, b) in enumerate(zip(trials, others, strict=True)) if a[0] != b[0]),
            n_trials,
        )
        worst = max(
            (
                abs(x / y - 1)
                for (_, a), (_, b) in zip(trials[:same], others[:same], strict=True)
                for x, y in zip(a, b, strict=True)
            ),
            default=0.0,
        )
        data = {"fidelity": fidelity, "n_trials": n_trials, "first": first, "second": second}
        data |= {"same_trials": same, "worst": worst, "identical": trials == others}
        line = (
            f"{fidelity}, {n_trials} trials: {first['seconds']:.1f} s and {second['seconds']:.1f}"
            f" s, scoring {second['scoring_ms']:.2f} ms per trial; the same seed gives the same"
            f" first {same} architectures, values within {worst:.0e}"
        )
        if plan.on_cuda and fidelity == "collapsed":
            data["cpu"], _ = once(fidelity, "cpu")
            line += f"; on the CPU {data['cpu']['seconds']:.1f} s"
        yield Found(line, data)


def retrain(plan: Plan) -> Iterator[Found]:
    """Train on coloured noise in each precision."""
    from images import draw_images

    from tftas_optuna import retrain as run_retrain
    from tftas_optuna.errors import TftasError

    space, (arch,) = sample("autoformer-tiny", 1)
    side, batch, epochs = plan.of(224, 32), plan.of(64, 8), plan.of(4, 2)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = draw_images(Path(folder) / "images", train=plan.of(128, 8), val=8, side=32)
        for amp in ("none", "bfloat16", "float16"):
            losses: list[float] = []
            overrides = {"amp": amp, "epochs": epochs, "batch_size": batch, "warmup_epochs": 1}
            overrides |= {"log_interval": 1, "lr": 5e-4, "clip_grad": 1.0}
            start = time.perf_counter()
            try:
                result = run_retrain(
                    arch,
                    data_dir=data_dir,
                    recipe="quick",
                    overrides=overrides,
                    img_size=side,
                    out=Path(folder) / amp,
                    device=plan.device,
                    callback=lambda event, seen=losses: seen.append(getattr(event, "loss", None)),
                )
            except TftasError as error:
                yield Found(f"{amp}: refused ({error})", {"amp": amp}, not plan.on_cuda)
                continue
            seconds = time.perf_counter() - start
            seen = [loss for loss in losses if loss is not None]
            data = {"amp": amp, "losses": seen, "seconds": seconds, "top1": result["top1"]}
            yield Found(
                f"{amp}: {len(seen)} steps of {batch} in {seconds:.1f} s, loss {seen[0]:.3f} to"
                f" {seen[-1]:.3f}, top-1 {result['top1']:.0f} %",
                data,
                all(map(math.isfinite, seen)) and seen[-1] < seen[0],
            )


def shared(plan: Plan) -> Iterator[Found]:
    """Time a step of shared training beside one of the drawn member alone."""
    import torch
    from shared_step import measure

    from tftas_optuna import get_space

    name = plan.of("autoformer-tiny", str(ROOT / "benchmarks/retrain/digits.yaml"))
    members, batch, steps = plan.of(20, 3), plan.of(64, 8), plan.of(60, 4)
    ours, theirs = measure(
        get_space(name),
        members=members,
        batch_size=batch,
        steps=steps,
        device=torch.device(plan.device),
    )
    data = {"members": members, "batch": batch, "shared_ms": 1e3 * ours, "alone_ms": 1e3 * theirs}
    yield Found(
        f"{members} members, batch {batch}: shared {1e3 * ours:.1f} ms, alone"
        f" {1e3 * theirs:.1f} ms a step, ratio {ours / theirs:.3f}",
        data,
    )


def latency(plan: Plan) -> Iterator[Found]:
    """Measure the table of a space, and some networks directly."""
    import numpy as np
    from latency_table import compare, directly

    from tftas_optuna import get_space
    from tftas_optuna.costs.latency import RelativeClock, reference_network
    from tftas_optuna.metrics import Meters, Target

    space = get_space(plan.of("autoformer-tiny", ROOT / "benchmarks/retrain/digits.yaml"))
    if plan.quick:
        space = dataclasses.replace(space, embed_dim=(48,), num_heads=(1, 3), mlp_ratio=(1, 4))
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(plan.of(10, 4))]
    target = Target(device=plan.device, img_size=space.img_size, num_classes=space.num_classes)
    start = time.perf_counter()
    meters = Meters(("latency",), space, target)
    seconds = time.perf_counter() - start
    table = [meters.cost("latency", arch) for arch in archs]
    clock = RelativeClock(reference_network(space), target)
    relative, plain = directly(archs, clock, 3)
    reference_ms = meters.records["latency"]["reference"]
    found = compare(table, [reference_ms * ratio for ratio in relative], plain)
    yield Found(
        f"{space.name}: table in {seconds:.0f} s; {len(archs)} networks of {min(plain):.2f} to"
        f" {max(plain):.2f} ms, median error {found['median_error']:.1%}, worst"
        f" {found['worst_error']:.1%}, tau {found['kendall_tau']:.3f}",
        {"table_seconds": seconds, **found},
    )
