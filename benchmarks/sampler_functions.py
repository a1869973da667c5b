"""Test functions of multi-objective optimisation: a screened NSGA-II against Optuna's.

    python benchmarks/sampler_functions.py --out benchmarks/results/sampler_functions.json

ZDT (Zitzler, Deb and Thiele 2000), DTLZ (Deb et al. 2002), a mixed space, one with a constraint,
one objective alone, one that is noise and one that is constant. Nothing is known of their
parameters: the screened sampler learns from the parameters alone.

The figure is the hypervolume of the feasible trials, as a fraction of the box between a reference
and the best value that any run found of each objective; higher is better. The reference is the
90 % quantile of each objective among 1,000 random points of the same problem. Of one objective
alone it is the way from that reference to the best value, as a fraction. A sampler is called
better where the means are more than two standard errors of their difference apart. Milliseconds
are processor time of the whole loop, to which the functions themselves add less than 0.1.
Problems that the file has already are left out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import optuna
from optuna.samplers import NSGAIISampler, RandomSampler

from tftas_optuna import ScreenedNSGAIISampler
from tftas_optuna.study._optuna import compute_hypervolume

# Trials at which to look before the end.
EARLY = (50, 100)
Function = Callable[[optuna.Trial], "tuple[float, ...]"]

SAMPLERS: dict[str, Callable[[int], Any]] = {
    "screened": lambda seed: ScreenedNSGAIISampler(seed=seed),
    "nsgaii 50": lambda seed: NSGAIISampler(seed=seed),
    "nsgaii 20": lambda seed: NSGAIISampler(seed=seed, population_size=20),
}


def floats(trial: optuna.Trial, count: int) -> np.ndarray:
    return np.array([trial.suggest_float(f"x{i:02}", 0, 1) for i in range(count)])


def zdt(kind: int, count: int) -> Function:
    def function(trial: optuna.Trial) -> tuple[float, ...]:
        x = floats(trial, count)
        first, rest = float(x[0]), x[1:]
        g = 1 + 9 * rest.mean()
        if kind == 4:
            y = 10 * rest - 5
            g = 1 + 10 * len(y) + (y**2 - 10 * np.cos(4 * np.pi * y)).sum()
        if kind == 6:
            first = 1 - math.exp(-4 * x[0]) * math.sin(6 * math.pi * x[0]) ** 6
            g = 1 + 9 * rest.mean() ** 0.25
        ratio = first / g
        shape = 1 - ratio**2 if kind in (2, 6) else 1 - math.sqrt(ratio)
        if kind == 3:
            shape -= ratio * math.sin(10 * math.pi * first)
        return first, float(g * shape)

    return function


def dtlz(kind: int, count: int, n_objectives: int) -> Function:
    def function(trial: optuna.Trial) -> tuple[float, ...]:
        x = floats(trial, count)
        place, rest = x[: n_objectives - 1], x[n_objectives - 1 :]
        if kind == 7:
            g = 1 + 9 * rest.mean()
            last = n_objectives - (place / (1 + g) * (1 + np.sin(3 * np.pi * place))).sum()
            return (*map(float, place), float((1 + g) * last))
        centred = rest - 0.5
        g = (centred**2).sum()
        if kind in (1, 3):
            g = 100 * (len(rest) + g - np.cos(20 * np.pi * centred).sum())
        near, far, scale = place, 1 - place, 0.5
        if kind != 1:
            near, far, scale = np.cos(place * np.pi / 2), np.sin(place * np.pi / 2), 1.0
        found = []
        for i in range(n_objectives):
            left = n_objectives - 1 - i
            found.append(scale * (1 + g) * near[:left].prod() * (far[left] if i else 1.0))
        return tuple(map(float, found))

    return function


def mixed(trial: optuna.Trial) -> tuple[float, ...]:
    """Take floats and whole numbers, each linear and logarithmic, and choices."""
    x = floats(trial, 4)
    rates = [math.log10(trial.suggest_float(f"rate{i}", 1e-5, 1e-1, log=True)) for i in range(2)]
    counts = [trial.suggest_int(f"count{i}", 1, 20) for i in range(3)]
    sizes = [math.log2(trial.suggest_int(f"size{i}", 1, 256, log=True)) for i in range(3)]
    choices = [trial.suggest_categorical(f"choice{i}", ["a", "b", "c"]) for i in range(4)]
    g = 1 + 4 * x[1:].mean()
    g += mean(abs(rate + 3) for rate in rates) + mean(abs(size - 5) / 2 for size in sizes)
    g += mean(abs(count - 7) / 4 for count in counts)
    g += sum({"a": 0.0, "b": 0.5, "c": 1.0}[choice] for choice in choices)
    return float(x[0]), float(g * (1 - math.sqrt(x[0] / g)))


def constrained(trial: optuna.Trial) -> tuple[float, ...]:
    """Cut bands out of the front of ZDT1, as Deb et al. 2001 do in CTP2."""
    first, second = zdt(1, 12)(trial)
    turn = -0.2 * math.pi
    along = math.sin(turn) * second + math.cos(turn) * first
    across = math.cos(turn) * (second - 1) - math.sin(turn) * first
    band = 0.2 * abs(math.sin(10 * math.pi * along)) ** 6
    trial.set_constraint("band", band - across)
    return first, second


def ackley(trial: optuna.Trial) -> tuple[float, ...]:
    y = 65.536 * floats(trial, 10) - 24.0
    near = -20 * np.exp(-0.2 * np.sqrt((y**2).mean()))
    return (float(near - np.exp(np.cos(2 * np.pi * y).mean()) + 20 + math.e),)


def rosenbrock(trial: optuna.Trial) -> tuple[float, ...]:
    y = 4.096 * floats(trial, 10) - 2.048
    return (float((100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2).sum()),)


def sphere_and_noise(trial: optuna.Trial) -> tuple[float, ...]:
    x = floats(trial, 10)
    noise = np.random.default_rng(np.frombuffer(x.tobytes(), dtype=np.uint32)).normal()
    return float(((x - 0.3) ** 2).sum()), float(noise)


def noise_alone(trial: optuna.Trial) -> tuple[float, ...]:
    return sphere_and_noise(trial)[1:]


def sphere_and_constant(trial: optuna.Trial) -> tuple[float, ...]:
    return float(((floats(trial, 10) - 0.3) ** 2).sum()), 1.0


PROBLEMS: dict[str, tuple[int, Function]] = {
    **{f"ZDT{k}, {n}": (2, zdt(k, n)) for k, n in ((1, 30), (2, 30), (3, 30), (4, 10), (6, 10))},
    **{
        f"DTLZ{k}, {n}, {m} objectives": (m, dtlz(k, n, m))
        for k, n, m in (
            (1, 10, 2),
            (2, 12, 2),
            (3, 12, 2),
            (7, 20, 2),
            (1, 10, 3),
            (2, 12, 3),
            (3, 12, 3),
            (7, 12, 3),
        )
    },
    "mixed, 16": (2, mixed),
    "constrained, 12": (2, constrained),
    "Ackley, 10": (1, ackley),
    "Rosenbrock, 10": (1, rosenbrock),
    "sphere and noise, 10": (2, sphere_and_noise),
    "noise alone, 10": (1, noise_alone),
    "sphere and a constant, 10": (2, sphere_and_constant),
}


def run(problem: str, sampler: Any, n_trials: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return all values, which are feasible, and the sampler's milliseconds per trial."""
    n_objectives, function = PROBLEMS[problem]
    study = optuna.create_study(directions=["minimize"] * n_objectives, sampler=sampler)
    start = time.process_time()
    study.optimize(function, n_trials=n_trials)
    seconds = time.process_time() - start
    trials = study.get_trials(deepcopy=False)
    feasible = [all(v <= 0 for v in trial.constraints.values()) for trial in trials]
    values = np.array([trial.values for trial in trials])
    return values, np.array(feasible), 1000 * seconds / n_trials


def fraction(values: np.ndarray, reference: np.ndarray, best: np.ndarray) -> float:
    """Measure what values dominate of the box between a reference and the best."""
    scaled = np.minimum((values - best) / (reference - best), 1.0)
    ones = np.ones(len(best))
    if not len(values):
        return 0.0
    return 1 - float(scaled.min()) if len(best) == 1 else compute_hypervolume(scaled, ones)


def compare(problem: str, n_seeds: int, n_trials: int) -> dict[str, Any]:
    random, allowed, _ = run(problem, RandomSampler(seed=12345), 1000)
    reference = np.quantile(random, 0.9, axis=0)
    runs = {
        name: [run(problem, make(seed), n_trials) for seed in range(n_seeds)]
        for name, make in SAMPLERS.items()
    }
    found = [random[allowed], *(v[ok] for each in runs.values() for v, ok, _ in each)]
    best = np.concatenate(found).min(axis=0)
    reference = np.where(reference > best, reference, best + 1)
    return {
        name: {
            "hypervolume": {
                str(n): [fraction(v[:n][ok[:n]], reference, best) for v, ok, _ in each]
                for n in sorted({n for n in EARLY if n < n_trials} | {n_trials})
            },
            "ms_per_trial": mean(ms for _, _, ms in each),
        }
        for name, each in runs.items()
    } | {"reference": reference.tolist(), "best": best.tolist()}


def verdict(ours: list[float], theirs: list[float]) -> str:
    """Tell whose mean is better by more than two standard errors."""
    errors = [stdev(v) / math.sqrt(len(v)) if len(v) > 1 else 0.0 for v in (ours, theirs)]
    apart = mean(ours) - mean(theirs)
    if abs(apart) <= 2 * math.hypot(*errors):
        return "equal"
    return "better" if apart > 0 else "WORSE"


def table(results: dict[str, Any], *, head: bool = True) -> None:
    names = list(SAMPLERS)
    titles = "".join(f"{name:>18}" for name in names)
    if head:
        print(
            f"{'hypervolume, mean ± sd':27}{'trials':>6}{titles}  screened is       ms per trial"
        )
    for problem, found in results.items():
        ms = "/".join(f"{found[name]['ms_per_trial']:.1f}" for name in names)
        for step in found[names[0]]["hypervolume"]:
            volumes = {name: found[name]["hypervolume"][step] for name in names}
            cells = ""
            for values in volumes.values():
                spread = stdev(values) if len(values) > 1 else 0.0
                cells += f"{mean(values):10.4f} ± {spread:.3f}"
            verdicts = [verdict(volumes[names[0]], volumes[name]) for name in names[1:]]
            print(f"{problem:27}{step:>6}{cells}  {', '.join(verdicts):16}  {ms}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n-trials", type=int, default=300)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--out", type=Path, help="JSON file of the results, added to")
    parser.add_argument("--table", action="store_true", help="print the file, run nothing")
    args = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results: dict[str, Any] = {}
    if args.out and args.out.exists():
        results = json.loads(args.out.read_text())["problems"]
    for problem in () if args.table else args.problems:
        if problem in results:
            continue
        results[problem] = compare(problem, args.seeds, args.n_trials)
        if args.out:
            about = {"trials": args.n_trials, "seeds": args.seeds, "problems": results}
            args.out.write_text(json.dumps(about, indent=1) + "\n")
        table({problem: results[problem]}, head=False)
    table(results)


if __name__ == "__main__":
    main()
