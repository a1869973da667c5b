"""What a screen gains where a search is bounded, or has one objective.

    python benchmarks/bounded_search.py --seeds 0 1 2

The best collapsed DSS within the bounds and the hypervolume, by sampler and trials: mean over
seeds of the sampler, on supernet 4. The table of latencies is measured once, on one thread.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

STEPS = (100, 200, 300, 500, 1000)
SAMPLERS = ("screened-nsgaii", "nsgaii")
CASES: dict[str, dict[str, Any]] = {
    "Tiny, 5.9 to 6.0 M": {"space": "autoformer-tiny", "bounds": {"n_params": (5.9e6, 6.0e6)}},
    "Base, 53 to 53.2 M": {"space": "autoformer-base", "bounds": {"n_params": (53e6, 53.2e6)}},
    "Tiny, latency in the lower half": {
        "space": "autoformer-tiny",
        "objectives": ("dss", "n_params"),
        "latency": 0.5,
    },
    "Tiny, DSS alone, up to 6 M": {
        "space": "autoformer-tiny",
        "objectives": ("dss",),
        "bounds": {"n_params": (None, 6e6)},
    },
}


def share_tables() -> None:
    """Measure the latencies of a space once for all searches of this process."""
    from tftas_optuna.costs.latency import TableMeter

    tables: dict[str, Any] = {}
    measure = TableMeter.__init__

    def once(self: Any, space: Any, target: Any, record: Any) -> None:
        measure(self, space, target, record or tables.get(space.name))
        tables.setdefault(space.name, self.record)

    TableMeter.__init__ = once  # type: ignore[method-assign]


def run(case: dict[str, Any], sampler: str, seed: int) -> list[dict[str, Any]]:
    """Search once; return the best score and the hypervolume after every number of trials."""
    from tftas_optuna import Deployment, get_space, search
    from tftas_optuna.metrics import Meters
    from tftas_optuna.search.progress import RunningFront
    from tftas_optuna.study.record import meter_records, read_settings

    space = get_space(case["space"])
    bounds = dict(case.get("bounds", {}))
    deployment = Deployment(threads=1)
    if "latency" in case:
        from tftas_optuna.costs import Deployment as Deployed
        from tftas_optuna.metrics import Target

        told = {k: v for k, v in Deployed(threads=1).on("cpu").items() if k != "hardware"}
        meters = Meters(("latency",), space, Target(**told))
        ends = [meters.cost("latency", arch) for arch in (space.smallest(), space.largest())]
        bounds["latency"] = (None, ends[0] + case["latency"] * (ends[1] - ends[0]))
    study = search(
        space,
        n_trials=STEPS[-1],
        objectives=case.get("objectives", ("dss", "n_params")),
        bounds=bounds,
        sampler=sampler,
        seed=seed,
        supernet_seed=4,
        fidelity="collapsed",
        n_exact=0,
        deployment=deployment,
    )
    settings = read_settings(study)
    meters = Meters(settings.costs, space, settings.target, meter_records(study))
    front = RunningFront(settings, meters)
    trials, rows, done = study.trials, [], 0
    best = 0.0
    for step in STEPS:
        new, done = trials[done:step], step
        front.add(new)
        inside = [t.values[0] for t in new if all(v <= 0 for v in t.constraints.values())]
        best = max([best, *inside])
        rows.append({"trials": step, "best": best, "hypervolume": front.hypervolume})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()
    import optuna
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    share_tables()
    results = []
    print(f"{'':34}{'sampler':17}" + "".join(f"{step:>20}" for step in STEPS))
    for name in args.cases:
        for sampler in SAMPLERS:
            runs = [run(CASES[name], sampler, seed) for seed in args.seeds]
            results += [
                {"case": name, "sampler": sampler, "seed": seed, "steps": rows}
                for seed, rows in zip(args.seeds, runs, strict=True)
            ]
            cells = [
                f"{mean(r[i]['best'] for r in runs):,.0f}"
                f" / {mean(r[i]['hypervolume'] for r in runs):,.0f}"
                for i in range(len(STEPS))
            ]
            print(f"{name:34}{sampler:17}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
            if args.out:
                args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
