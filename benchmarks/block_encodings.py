"""Two encodings of a block for NSGA-II, and random search, on DSS.

Hypervolume of all trials so far, by seed, after a quarter, a half and all of the trials; higher
is better. DSS counts from zero and parameters as a fraction of the space's range, so the figure
reads as a score. ``combined`` is the product's encoding (one parameter per block, such as
``h3 r3.5``), ``separate`` has one parameter for the heads and one for the ratio of each block.

    python benchmarks/block_encodings.py --n-trials 1000 --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

METHODS = ("nsgaii combined", "nsgaii separate", "random")


def run(job: tuple[str, str, int, int]) -> dict[str, Any]:
    """Search once in this process, on one thread."""
    method, space_name, seed, n_trials = job
    import optuna
    import torch
    from optuna.distributions import CategoricalDistribution

    from tftas_optuna import DSSObjective, Scorer, get_space, search
    from tftas_optuna.metrics import Meters
    from tftas_optuna.spaces import AutoFormerSpace
    from tftas_optuna.study.hypervolume import Hypervolume
    from tftas_optuna.study.record import meter_records, read_settings

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    class SeparateSpace(AutoFormerSpace):
        def parameters(self) -> dict[str, CategoricalDistribution]:
            apart = {
                "embed_dim": CategoricalDistribution(self.embed_dim),
                "depth": CategoricalDistribution(self.depth),
            }
            for i in range(1, self.depth[-1] + 1):
                apart[f"heads_{i:02d}"] = CategoricalDistribution(self.num_heads)
                apart[f"ratio_{i:02d}"] = CategoricalDistribution(self.mlp_ratio)
            return apart

        def from_params(self, params: Mapping[str, Any]) -> Any:
            joined = {name: params[name] for name in ("embed_dim", "depth")}
            for i in range(1, self.depth[-1] + 1):
                heads, ratio = params[f"heads_{i:02d}"], params[f"ratio_{i:02d}"]
                joined[f"block_{i:02d}"] = f"h{heads} r{ratio:g}"
            return super().from_params(joined)

    space = get_space(space_name)
    if method == "nsgaii separate":
        space = SeparateSpace.from_dict(space.to_dict())
    if method == "random":
        objective = DSSObjective(space, scorer=Scorer(space, seed=seed))
        sampler = optuna.samplers.RandomSampler(seed=seed)
        study = optuna.create_study(directions=objective.directions, sampler=sampler)
        objective.annotate(study)
        study.optimize(objective, n_trials=n_trials)
    else:
        study = search(space, n_trials=n_trials, seed=seed, sampler="nsgaii", fidelity="exact")
    values = [trial.values for trial in study.trials]
    settings = read_settings(study)
    meters = Meters(settings.costs, settings.space, settings.target, meter_records(study))
    volume = Hypervolume(settings, meters)
    steps = [n_trials // 4, n_trials // 2, n_trials]
    return {
        "method": method,
        "seed": seed,
        "hypervolume": {step: volume(values[:step]) for step in steps},
        "dashboard_bytes": payload(study),
    }


def payload(study: Any) -> int:
    """Count the bytes that optuna-dashboard sends for the study."""
    import optuna_dashboard

    sent: list[bytes] = optuna_dashboard.wsgi(study._storage)(
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": f"/api/studies/{study._study_id}",
            "QUERY_STRING": "after=0",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
        },
        lambda status, headers, exc_info=None: None,
    )
    return sum(len(part) for part in sent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--n-trials", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()

    jobs = [(m, args.space, seed, args.n_trials) for seed in args.seeds for m in METHODS]
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(run, jobs))
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")

    print(f"{args.space}, hypervolume by seed after {args.n_trials} trials")
    print(f"{'method':16}" + "".join(f"{f'seed {s}':>10}" for s in args.seeds) + "      mean ± sd")
    for method in METHODS:
        rows = [r for r in results if r["method"] == method]
        final = [r["hypervolume"][args.n_trials] for r in rows]
        spread = stdev(final) if len(final) > 1 else 0.0
        cells = "".join(f"{value:10.0f}" for value in final)
        print(f"{method:16}{cells}  {mean(final):8.0f} ± {spread:.0f}")
    print("\nmean after a quarter, a half, all; bytes sent by optuna-dashboard for one study")
    for method in METHODS:
        rows = [r for r in results if r["method"] == method]
        steps = [mean(r["hypervolume"][step] for r in rows) for step in rows[0]["hypervolume"]]
        size = mean(r["dashboard_bytes"] for r in rows) / 1e6
        print(f"{method:16}" + "".join(f"{value:10.0f}" for value in steps) + f"  {size:8.1f} MB")


if __name__ == "__main__":
    main()
