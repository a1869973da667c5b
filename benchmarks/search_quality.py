"""How good a front is after how many trials, by sampler.

    python benchmarks/search_quality.py --spaces autoformer-tiny --supernets 0 1 2 3 4 --seeds 0
    python benchmarks/search_quality.py --spaces autoformer-tiny --supernets 4 --seeds 0 1 2 3 4
    python benchmarks/search_quality.py --spaces pit-tiny --supernets 4 --exhaustive
    python benchmarks/search_quality.py --table --plot benchmarks/results/search_quality.png

Hypervolume of all trials so far: collapsed DSS counts from zero, parameters as a fraction of the
space's range. It is given relative to the best front known of a supernet, which is that of all
trials of all runs on it in the file (runs of samplers that have no row, such as an earlier
version of one, count for this alone); with ``--exhaustive`` it is the true one, of all
architectures. Names of samplers are those of ``search``; ``-ends`` has the smallest and the
largest architecture among its first trials, as ``screened-nsgaii`` always has. Milliseconds are
processor time of everything but the scores.

Every run is one line of the file, and runs that it has already are left out, so what was cut off
goes on when it is called again. Scores are kept under ``--cache``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

STEPS = (50, 100, 150, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 7000, 10_000)
SHOWN = (100, 200, 300, 500, 1000, 2000, 5000, 10_000)
SPACES = ("autoformer-tiny", "autoformer-small", "autoformer-base", "pit-tiny")
SAMPLERS = ("screened-nsgaii", "nsgaii", "nsgaii-ends", "tpe", "gp-ends", "random")
MOST = "gp-ends=200,tpe=1000,nsgaii=5000,nsgaii-ends=5000,random=5000"
RESULTS = Path(__file__).parent / "results"
EXHAUSTIVE = "exhaustive"
Run = dict[str, Any]


class Cache:
    """Scores of one space on one supernet, kept in a file."""

    def __init__(self, folder: Path, space: Any, supernet: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._space = space
        path = folder / f"{space.name}-{supernet}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        self._known: dict[str, float] = dict(map(json.loads, lines))
        self._file = path.open("a")
        self.seconds = 0.0

    def score(self, home: Any, task: Any, archs: Sequence[Any]) -> list[Any]:
        """Take the place of ``tftas_optuna.scoring.task.score``."""
        from tftas_optuna.scoring import task as original
        from tftas_optuna.scoring.panel import Scores

        start = time.process_time()
        keys = [" ".join(map(str, self._space.encode(arch).values())) for arch in archs]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        if new:
            scores = original.score(home, task, [archs[i] for i in new])
            for i, found in zip(new, scores, strict=True):
                (self._known[keys[i]],) = found["dss"]
                self._file.write(json.dumps([keys[i], self._known[keys[i]]]) + "\n")
            self._file.flush()
        self.seconds += time.process_time() - start
        return [Scores({"dss": (self._known[key],)}) for key in keys]


@cache
def volume_of(space_name: str) -> Any:
    """Return what measures fronts of a space."""
    from tftas_optuna import get_space
    from tftas_optuna.metrics import Meters
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.search.planning import make_settings
    from tftas_optuna.study.hypervolume import Hypervolume

    settings = make_settings(
        Conditions.of(get_space(space_name)),
        objectives=("dss", "n_params"),
        fidelity="collapsed",
    )
    return Hypervolume(settings, Meters(settings.costs, settings.space, settings.target))


def front_of(values: Iterable[Sequence[float]]) -> list[list[float]]:
    """Return the values that no other has more DSS and fewer parameters than."""
    found: list[list[float]] = []
    for dss, n_params in sorted(values, key=lambda value: (value[1], -value[0])):
        if not found or dss > found[-1][0]:
            found.append([round(dss, 2), round(n_params)])
    return found


def run(space_name: str, supernet: int, sampler: str, seed: int, n: int, folder: Path) -> Run:
    """Search once in this process, on one thread."""
    from unittest import mock

    import optuna
    import torch

    from tftas_optuna import Execution, get_space, search
    from tftas_optuna.scoring import pool as executors

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = get_space(space_name)
    scores = Cache(folder, space, supernet)
    name = sampler.removesuffix("-ends")
    spent: dict[int, float] = {}
    start = time.process_time()

    def mark(progress: Any) -> None:
        spent[progress.n_done] = time.process_time() - start - scores.seconds

    with mock.patch.object(executors, "score", scores.score):
        study = search(
            space,
            n_trials=n,
            sampler=name,
            start=(space.smallest(), space.largest()) if name != sampler else (),
            seed=seed,
            supernet_seed=supernet,
            fidelity="collapsed",
            n_exact=0,
            execution=Execution(device="cpu"),
            callback=mark,
        )
    values = [trial.values for trial in study.get_trials(deepcopy=False)]
    steps = [step for step in STEPS if step <= n]
    return {
        "space": space_name,
        "supernet": supernet,
        "sampler": sampler,
        "seed": seed,
        "n_trials": n,
        "hypervolume": {step: round(volume_of(space_name)(values[:step]), 2) for step in steps},
        "ms_per_trial": {
            step: round(1000 * min(s for at, s in spent.items() if at >= step) / step, 2)
            for step in steps
        },
        "front": front_of(values),
    }


def exhaustive(space_name: str, supernet: int, folder: Path) -> Run:
    """Score all architectures of a space."""
    import torch

    from tftas_optuna import get_space
    from tftas_optuna.scoring.conditions import Conditions, SupernetSource
    from tftas_optuna.scoring.task import BasisKey, ScoringTask

    torch.set_num_threads(1)
    space = get_space(space_name)
    names, choices = zip(*((n, d.choices) for n, d in space.distributions().items()), strict=True)
    params = (dict(zip(names, found, strict=True)) for found in itertools.product(*choices))
    archs = list(dict.fromkeys(map(space.decode, params)))
    task = ScoringTask(
        Conditions.of(space, supernet=SupernetSource(supernet)), ("dss",), "collapsed"
    )
    key = BasisKey(task.conditions, "cpu")
    scores = Cache(folder, space, supernet)
    values = []
    for i in range(0, len(archs), 50):
        some = archs[i : i + 50]
        found = scores.score(key, task, some)
        values += [
            (s["dss"][0], space.costs(a).n_params) for s, a in zip(found, some, strict=True)
        ]
    return {
        "space": space_name,
        "supernet": supernet,
        "sampler": EXHAUSTIVE,
        "seed": 0,
        "n_trials": len(archs),
        "hypervolume": {len(archs): volume_of(space_name)(values)},
        "ms_per_trial": {},
        "front": front_of(values),
    }


def key_of(run: Run) -> tuple[Any, ...]:
    return run["space"], run["supernet"], run["sampler"], run["seed"]


def read(path: Path) -> dict[tuple[Any, ...], Run]:
    """Read the runs of a file, the longest of each kind, as fractions of the best front known."""
    runs: dict[tuple[Any, ...], Run] = {}
    for found in map(json.loads, path.read_text().splitlines() if path.exists() else ()):
        key = key_of(found)
        if key not in runs or runs[key]["n_trials"] < found["n_trials"]:
            runs[key] = found
    for place in {key[:2] for key in runs}:
        members = [found for key, found in runs.items() if key[:2] == place]
        best = volume_of(place[0])([point for found in members for point in found["front"]])
        for found in members:
            found["best"] = best
            found["relative"] = {int(n): v / best for n, v in found["hypervolume"].items()}
    return dict(sorted(runs.items(), key=lambda item: (SPACES.index(item[0][0]), item[0][1:])))


def spread(values: Sequence[float]) -> str:
    percent = [100 * value for value in values]
    return f"{mean(percent):.2f}" + (f" ± {stdev(percent):.2f}" if len(percent) > 1 else "")


def table(runs: dict[tuple[Any, ...], Run]) -> None:
    """Print the means over what varies: sampler seeds on one supernet, supernets for one seed."""
    for space in dict.fromkeys(key[0] for key in runs):
        here = [found for found in runs.values() if found["space"] == space]
        supernets = sorted({found["supernet"] for found in here})
        counts = {s: len({f["seed"] for f in here if f["supernet"] == s}) for s in supernets}
        most = max(supernets, key=lambda s: counts[s])
        groups = {
            f"supernet {most}, by sampler seed": [f for f in here if f["supernet"] == most],
            "sampler seed 0, by supernet": [f for f in here if f["seed"] == 0],
        }
        for title, members in groups.items():
            if len({(f["supernet"], f["seed"]) for f in members}) == 1:
                continue
            print(f"\n{space}, {title}: % of the best hypervolume known, mean ± sd")
            print(f"{'sampler':16}{'runs':>5}" + "".join(f"{n:>15,}" for n in SHOWN) + "      ms")
            for sampler in SAMPLERS:
                rows = [f for f in members if f["sampler"] == sampler]
                if not rows:
                    continue
                cells = ""
                for step in SHOWN:
                    # Of runs of several lengths, only all of them are compared with others.
                    values = [f["relative"][step] for f in rows if step in f["relative"]]
                    note = f" ({len(values)})" if 0 < len(values) < len(rows) else ""
                    cells += f"{spread(values) + note if values else '-':>15}"
                ms = mean(list(f["ms_per_trial"].values())[-1] for f in rows)
                print(f"{sampler:16}{len(rows):>5}{cells}{ms:>8.1f}")
        by_supernet(space, here, supernets)


def by_supernet(space: str, here: list[Run], supernets: Sequence[int]) -> None:
    shown = [("nsgaii", 5000), *(("screened-nsgaii", n) for n in (200, 300, 500, 1000))]
    shown += [("gp-ends", 200), ("tpe", 1000), ("random", 5000)]
    print(f"\n{space}, sampler seed 0: % of the best hypervolume known, by supernet")
    print(f"{'':23}" + "".join(f"{s:>9}" for s in supernets))
    for sampler, step in shown:
        cells = {
            f["supernet"]: f"{100 * f['relative'][step]:.2f}"
            for f in here
            if f["sampler"] == sampler and f["seed"] == 0 and step in f["relative"]
        }
        if cells:
            row = "".join(f"{cells.get(s, '-'):>9}" for s in supernets)
            print(f"{sampler:16}{step:>7,}{row}")


def plot(runs: dict[tuple[Any, ...], Run], path: Path) -> None:
    """Draw a panel for each space: the mean of each sampler, between its worst and best run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    spaces = list(dict.fromkeys(key[0] for key in runs))
    rows = -(-len(spaces) // 2)
    figure, axes = plt.subplots(
        rows, min(len(spaces), 2), figsize=(11, 4.2 * rows), squeeze=False, layout="constrained"
    )
    lines: dict[str, Any] = {}
    for axis, space in itertools.zip_longest(axes.flat, spaces):
        if space is None:
            axis.axis("off")
            continue
        lowest = 100.0
        for color, sampler in enumerate(SAMPLERS):
            found = [f["relative"] for k, f in runs.items() if k[0] == space and k[2] == sampler]
            if not found:
                continue
            # Where few runs go on alone, a mean would jump.
            steps = [n for n in STEPS if 2 * sum(n in f for f in found) >= len(found)]
            values = [[100 * f[n] for f in found if n in f] for n in steps]
            ends = [min(v) for v in values], [max(v) for v in values]
            (lines[sampler],) = axis.plot(
                steps, [mean(v) for v in values], color=f"C{color}", marker="o", markersize=3
            )
            axis.fill_between(steps, *ends, color=f"C{color}", alpha=0.15, linewidth=0)
            lowest = min(lowest, mean(values[min(1, len(values) - 1)]))
        axis.set(title=space, xscale="log", xlabel="trials", ylabel="% of the best hypervolume")
        axis.set_ylim(max(lowest - 2, 0), 100.5)
        lengths = [f["n_trials"] for k, f in runs.items() if k[0] == space and k[2] in SAMPLERS]
        longest = max(lengths, default=0)
        axis.set_xticks([n for n in (50, *SHOWN) if n <= longest])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3, which="both")
    ordered = [name for name in SAMPLERS if name in lines]
    figure.legend(
        [lines[name] for name in ordered], ordered, loc="outside lower center", ncols=len(ordered)
    )
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=["autoformer-tiny"])
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--supernets", type=int, nargs="+", default=[4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the sampler")
    parser.add_argument("--n-trials", type=int, default=10_000)
    parser.add_argument("--most", default=MOST, help="where to cut samplers: NAME=TRIALS,...")
    parser.add_argument("--exhaustive", action="store_true", help="score all of the spaces, only")
    parser.add_argument("--out", type=Path, default=RESULTS / "search_quality.jsonl")
    parser.add_argument("--cache", type=Path, default=Path("search_quality_cache"))
    parser.add_argument("--table", action="store_true", help="print the file, run nothing")
    parser.add_argument("--plot", type=Path, help="draw the file, run nothing")
    args = parser.parse_args()

    if not (args.table or args.plot):
        cuts = {n: int(most) for n, most in (cut.split("=") for cut in args.most.split(","))}
        samplers = [EXHAUSTIVE] if args.exhaustive else args.samplers
        jobs = itertools.product(args.spaces, args.supernets, args.seeds, samplers)
        for space, supernet, seed, sampler in jobs:
            n = min(args.n_trials, cuts.get(sampler, args.n_trials))
            known = read(args.out).get((space, supernet, sampler, seed))
            if known is not None and (known["n_trials"] >= n or sampler == EXHAUSTIVE):
                continue
            if sampler == EXHAUSTIVE:
                result = exhaustive(space, supernet, args.cache)
            else:
                result = run(space, supernet, sampler, seed, n, args.cache)
            with args.out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            last = {"hypervolume": f"{list(result['hypervolume'].values())[-1]:.0f}"}
            print(*key_of(result), f"{result['n_trials']} trials", last, flush=True)
    runs = read(args.out)
    if args.plot:
        plot(runs, args.plot)
    if args.table or not args.plot:
        print(f"-: no run is so long; (n): n of the runs are. Cut by default: {MOST}")
        table(runs)


if __name__ == "__main__":
    main()
