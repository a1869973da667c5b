"""Steps that use a GPU as users do."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
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
    """Search twice with one seed, on the CPU, trial by trial, and killed on the way."""
    space, _ = sample("autoformer-tiny", 0)
    for fidelity, n_trials in {
        "collapsed": plan.of(1000, 30),
        "exact": plan.of(200, 4),
    }.items():
        first, trials = once(space, fidelity, n_trials, plan.device)
        second, others = once(space, fidelity, n_trials, plan.device)
        data = {"fidelity": fidelity, "n_trials": n_trials, "first": first, "second": second}
        data["identical"] = trials == others
        line = (
            f"{fidelity}, {n_trials} trials: {first['seconds']:.1f} s and {second['seconds']:.1f}"
            f" s, of them {second['started']:.1f} to start and score the first generation;"
            f" scoring {second['scoring_ms']:.2f} ms per trial; the same seed gives"
            f" {'the same study' if trials == others else 'ANOTHER STUDY'}"
        )
        if plan.on_cuda and fidelity == "collapsed":
            data["cpu"], _ = once(space, fidelity, n_trials, "cpu")
            line += f"; on the CPU {data['cpu']['seconds']:.1f} s"
        yield Found(line, data, trials == others)
        yield one_by_one(plan, space, fidelity)
    yield killed(plan)


def once(
    space: Any, fidelity: str, n_trials: int, device: str, workers: int = 1
) -> tuple[dict[str, Any], list[Any]]:
    """Search; return the times, and each trial's parameters and values."""
    from tftas_optuna import Execution
    from tftas_optuna import search as run_search

    seen: list[Any] = []
    start = time.perf_counter()
    started = 0.0

    def watch(progress: Any) -> None:
        nonlocal started
        if not any(each.n_done for each in seen):
            started = time.perf_counter() - start
        seen.append(progress)

    study = run_search(
        space,
        n_trials=n_trials,
        sampler="screened-nsgaii",
        fidelity=fidelity,
        n_exact=0,
        execution=Execution(device=device, workers=workers),
        callback=watch,
    )
    seconds = time.perf_counter() - start
    scoring = 1000 * seen[-1].scoring_seconds / n_trials
    trials = [(trial.params, trial.values) for trial in study.trials]
    return {"seconds": seconds, "started": started, "scoring_ms": scoring}, trials


def one_by_one(plan: Plan, space: Any, fidelity: str) -> Found:
    """Time trials that a plain study of Optuna asks for one by one."""
    import optuna

    from tftas_optuna import ArchitectureObjective, Scorer

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    scorer = Scorer(space, fidelity=fidelity, device=plan.device)
    objective = ArchitectureObjective(space, scorer=scorer)
    sampler = optuna.samplers.NSGAIISampler(seed=0)
    study = optuna.create_study(directions=objective.directions, sampler=sampler)
    study.optimize(objective, n_trials=3)
    n_trials = plan.of(100, 5)
    start = time.perf_counter()
    study.optimize(objective, n_trials=n_trials)
    ms = 1000 * (time.perf_counter() - start) / n_trials
    data = {"fidelity": fidelity, "optimize_ms": ms}
    return Found(f"{fidelity}, study.optimize: {ms:.2f} ms per trial", data)


def killed(plan: Plan) -> Found:
    """Kill a search once it has stored trials, go on, and compare with one that was not."""
    from tftas_optuna.errors import TftasError
    from tftas_optuna.storage import load_study

    n_trials = plan.of(1000, 60)

    def command(folder: Path, trials: int) -> list[str]:
        at = ["--storage", f"sqlite:///{folder / 'tftas.db'}", "--device", plan.device]
        how = ["--fidelity", "collapsed", "--n-trials", str(trials)]
        return [sys.executable, "-m", "tftas_optuna", "run", *at, *how]

    def stored(folder: Path) -> list[Any]:
        try:
            study = load_study(f"sqlite:///{folder / 'tftas.db'}")
        except (TftasError, LookupError, ValueError):
            return []
        return [(trial.params, trial.values) for trial in study.get_trials(deepcopy=False)]

    with tempfile.TemporaryDirectory() as place:
        whole, cut = Path(place) / "whole", Path(place) / "cut"
        whole.mkdir(), cut.mkdir()
        subprocess.run(command(whole, n_trials), check=True, capture_output=True)
        with subprocess.Popen(
            command(cut, n_trials), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            while not stored(cut) and running.poll() is None:
                time.sleep(0.05)
            running.kill()
        kept = stored(cut)
        if len(kept) < n_trials:
            subprocess.run(command(cut, n_trials - len(kept)), check=True, capture_output=True)
        same = stored(cut) == stored(whole)
    data = {"n_trials": n_trials, "kept": len(kept), "same": same}
    return Found(
        f"killed with {len(kept)} of {n_trials} trials stored and gone on:"
        f" {'the same study' if same else 'ANOTHER STUDY'} as in one go",
        data,
        same,
    )


def workers(plan: Plan) -> Iterator[Found]:
    """Search with two workers, each of which has a GPU of its own."""
    import torch

    if plan.on_cuda and torch.cuda.device_count() < 2:
        raise Skipped("needs two GPUs, and there is one")
    space, _ = sample("autoformer-tiny", 0)
    n_trials = plan.of(2000, 8)
    # Without a number the workers take the GPUs in turn.
    device = plan.device.partition(":")[0]
    alone, expected = once(space, "exact", n_trials, device)
    both, trials = once(space, "exact", n_trials, device, workers=2)
    worst = max(
        abs(x / y - 1)
        for (_, a), (_, b) in zip(trials, expected, strict=True)
        for x, y in zip(a, b, strict=True)
    )
    same = [params for params, _ in trials] == [params for params, _ in expected]
    data = {"n_trials": n_trials, "one": alone, "two": both, "same": same, "worst": worst}
    yield Found(
        f"{n_trials} exact trials: {alone['seconds'] - alone['started']:.1f} s after the first"
        f" generation with one worker, {both['seconds'] - both['started']:.1f} with two;"
        f" {'the same trials' if same else 'OTHER TRIALS'}, values within {worst:.0e}",
        data,
        same,
    )


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
