"""The paper's search and ours in the same ranges of parameters: what each finds, and how soon.

    OMP_NUM_THREADS=1 python benchmarks/paper_search.py --supernets 0 1 2 --seeds 0 1 2 3 4

The paper (Zhou et al., CVPR 2022) draws 8,000 candidates at random inside a range of parameters
and takes the one with the highest DSS. Here that is done in ranges that end at the parameters of a
published architecture and begin 10 % below, and in the 5 to 7 M of the literature; candidates that
were drawn twice are scored once. Our search gets the same range as a bound, with DSS alone as its
objective and with DSS against parameters, and a budget of trials. All are scored collapsed; the
best of each, the published architectures and the first 50 of the random ones exactly as well.

Ranks count how many of the random candidates have a higher collapsed DSS. ``passes`` is the number
of trials after which ours is above all of them. ``released`` is the rank by the terms of DSS that
the released code leaves, see ``paper_bands.py``. Seconds are those of one thread, with the
supernet and without imports, by the clock and in brackets of the processor; those of exact scores
are the mean of the 50 times the number of candidates.

A case on a supernet is one entry of the file, and those that it has already are left out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import optuna
import paper_bands  # noqa: F401  registers dss_released_terms
import torch

from tftas_optuna import Execution, Scorer, get_space, pareto_front, search
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.spaces import published_architectures

PUBLISHED = published_architectures()
CASES: dict[str, dict[str, Any]] = {
    "tiny, 5 to 7 M": {
        "space": "autoformer-tiny",
        "range": (5e6, 7e6),
        "published": ("tf-tas-tiny", "autoformer-tiny"),
    },
    **{
        f"{space}, up to {name}": {"space": space, "published": (name, *others)}
        for space, name, *others in (
            ("autoformer-tiny", "tf-tas-tiny", "autoformer-tiny"),
            ("autoformer-small", "tf-tas-small", "autoformer-small"),
            ("autoformer-base", "tf-tas-base", "autoformer-base"),
            ("pit-tiny", "tf-tas-pit-tiny"),
            ("pit-xs", "tf-tas-pit-xs"),
            ("pit-small", "tf-tas-pit-small"),
        )
    },
}
EXACTLY = 50
BELOW = 0.1
# One candidate scored twice, in batches of other companions, may differ by this.
ROUNDING = 1e-6
OBJECTIVES = (("dss",), ("dss", "n_params"))


def range_of(case: dict[str, Any]) -> tuple[float, float]:
    """Return the fewest and the most parameters."""
    if "range" in case:
        low, high = case["range"]
        return low, high
    size = get_space(case["space"]).costs(PUBLISHED[case["published"][0]]).n_params
    return (1 - BELOW) * size, size


class Clock:
    """Seconds since it was made, by the clock and of the processor."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Return both."""
        return time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def rank(value: float, among: Sequence[float]) -> int:
    """Return the place of a value among others; 1 is that none of them is above it."""
    return 1 + sum(other > value * (1 + ROUNDING) for other in among)


def random_search(
    case: dict[str, Any], supernet: int, count: int, exact: Scorer
) -> dict[str, Any]:
    """Draw candidates inside the range, and score them all."""
    space = get_space(case["space"])
    low, high = range_of(case)
    rng = np.random.default_rng(supernet)
    clock = Clock()
    drawn, inside = 0, []
    while len(inside) < count:
        arch = space.sample(rng)
        drawn += 1
        if low <= space.costs(arch).n_params <= high:
            inside.append(arch)
    archs = list(dict.fromkeys(inside))
    drawing = clock.read()
    collapsed = Scorer(space, seed=supernet, fidelity="collapsed", device="cpu")
    scores = collapsed.batch(archs)
    spent = clock.read()

    order = np.argsort(scores)[::-1]
    first = [archs[i] for i in order[:EXACTLY]]
    clock = Clock()
    exact_scores = exact.batch(first)
    each = [seconds / len(first) for seconds in clock.read()]
    released = collapsed.sharing("dss_released_terms", "collapsed")
    others = released.batch(archs)
    published = []
    for name in case["published"]:
        arch = PUBLISHED[name]
        score, terms = collapsed(arch), released(arch)
        published.append(
            {
                "name": name,
                "n_params": space.costs(arch).n_params,
                "exact": exact(arch),
                "collapsed": score,
                "rank": rank(score, scores),
                "rank_released": rank(terms, others),
            }
        )
    return {
        "drawn": drawn,
        "inside": count,
        "distinct": len(archs),
        "seconds_drawing": drawing,
        "seconds": spent,
        "seconds_exact": [seconds * len(archs) for seconds in each],
        "best": scores[order[0]],
        "best_exact": max(exact_scores),
        "best_place_exactly": rank(exact_scores[0], exact_scores),
        "first_tau": kendall_tau([scores[i] for i in order[:EXACTLY]], exact_scores),
        "first_spread": 1 - scores[order[len(first) - 1]] / scores[order[0]],
        "best_architecture": first[0].to_dict(),
        "published": published,
        "scores": scores,
    }


def our_search(
    case: dict[str, Any], supernet: int, seed: int, n_trials: int, objectives: tuple[str, ...]
) -> dict[str, Any]:
    """Search the same range."""
    space = get_space(case["space"])
    clock = Clock()
    study = search(
        space,
        n_trials=n_trials,
        objectives=objectives,
        bounds={"n_params": range_of(case)},
        seed=seed,
        supernet_seed=supernet,
        fidelity="collapsed",
        n_exact=0,
        execution=Execution(device="cpu"),
    )
    seconds = clock.read()
    values = [
        trial.values[0] if all(v <= 0 for v in trial.constraints.values()) else -np.inf
        for trial in study.trials
    ]
    best = max(pareto_front(study), key=lambda member: member.values["dss"])
    return {
        "objectives": objectives,
        "seed": seed,
        "n_trials": len(values),
        "inside": int(np.isfinite(values).sum()),
        "seconds": seconds,
        "best_so_far": np.maximum.accumulate(values).tolist(),
        "n_params": best.n_params,
        "best_architecture": best.architecture.to_dict(),
    }


def compare(case: dict[str, Any], supernet: int, args: argparse.Namespace) -> dict[str, Any]:
    """Search one range in both ways, on one supernet."""
    exact = Scorer(case["space"], seed=supernet, device="cpu")
    found = random_search(case, supernet, args.random, exact)
    scores = found.pop("scores")
    ours = []
    for objectives in OBJECTIVES:
        for seed in args.seeds:
            run = our_search(case, supernet, seed, args.n_trials, objectives)
            values = run.pop("best_so_far")
            run["best"] = values[-1]
            run["exact"] = exact(run["best_architecture"])
            run["rank"] = rank(values[-1], scores)
            for name, factor in (("passes", 1 + ROUNDING), ("reaches", 1 - ROUNDING)):
                above = (i for i, v in enumerate(values, 1) if v > factor * found["best"])
                run[name] = next(above, None)
            ours.append(run)
    low, high = range_of(case)
    return {"low": low, "high": high, "random": found, "ours": ours}


def both(seconds: Sequence[float]) -> str:
    return f"{seconds[0]:,.1f} ({seconds[1]:,.1f})"


def show(name: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print a line for each way to search and for each published architecture."""
    for supernet, row in rows.items():
        found = row["random"]
        print(
            f"\n{name} ({row['low'] / 1e6:.2f} to {row['high'] / 1e6:.2f} M), supernet {supernet}"
        )
        print(
            f"  random: {found['inside']:,} of {found['drawn']:,} drawn are inside,"
            f" {found['distinct']:,} distinct; {both(found['seconds'])} s,"
            f" exactly it would be {both(found['seconds_exact'])} s; best {found['best']:,.0f},"
            f" exactly {found['best_exact']:,.0f} (place {found['best_place_exactly']} of"
            f" the first {EXACTLY}, which spread by {100 * found['first_spread']:.2f} %,"
            f" tau {found['first_tau']:.3f})"
        )
        for objectives in OBJECTIVES:
            runs = [run for run in row["ours"] if tuple(run["objectives"]) == objectives]
            spent = zip(*(run["seconds"] for run in runs), strict=True)
            print(
                f"  ours, {', '.join(objectives)}: {runs[0]['n_trials']} trials,"
                f" {both([median(s) for s in spent])} s; best"
                f" {min(run['best'] for run in runs):,.0f} to"
                f" {max(run['best'] for run in runs):,.0f}, mean"
                f" {mean(run['best'] / found['best'] - 1 for run in runs):+.2%}, exactly"
                f" {min(run['exact'] for run in runs):,.0f} to"
                f" {max(run['exact'] for run in runs):,.0f}; ranks"
                f" {sorted(run['rank'] for run in runs)}; passes after"
                f" {[run['passes'] for run in runs]}, reaches after"
                f" {[run['reaches'] for run in runs]}"
            )
        for known in found["published"]:
            print(
                f"  {known['name']}: {known['n_params'] / 1e6:.2f} M, {known['collapsed']:,.0f},"
                f" exactly {known['exact']:,.0f}; rank {known['rank']:,}, released"
                f" {known['rank_released']:,}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--supernets", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of ours")
    parser.add_argument("--random", type=int, default=8000, help="candidates of the paper's way")
    parser.add_argument("--n-trials", type=int, default=300, help="of ours")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    for name in args.cases:
        rows = results.setdefault(name, {})
        for supernet in map(str, args.supernets):
            if supernet not in rows:
                rows[supernet] = compare(CASES[name], int(supernet), args)
                if args.out:
                    args.out.write_text(json.dumps(results, indent=1) + "\n")
        show(name, rows)


if __name__ == "__main__":
    main()
