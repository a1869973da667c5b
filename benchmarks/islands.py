"""Two searches that share a study against one search of the same length.

    python benchmarks/islands.py --postgresql URL [--seeds 0 1 2 3 4] [--out FILE]

Per seed: two processes of 1000 trials each on one study of the database, and one search of 2000
trials; collapsed DSS on AutoFormer-Tiny. Hypervolume of the front; higher is better.
"""

from __future__ import annotations

import argparse
import json
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any


def run(storage: str | None, name: str, seed: int, n_trials: int) -> Any:
    """Search in this process, on one thread."""
    import optuna
    import torch

    from tftas_optuna import Execution, get_space, search

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return search(
        get_space("autoformer-tiny"),
        n_trials=n_trials,
        storage=storage,
        study_name=name,
        seed=seed,
        fidelity="collapsed",
        n_exact=0,
        execution=Execution(device="cpu"),
    )


def volume(study: Any) -> float:
    """Compute the hypervolume of a study's front."""
    from tftas_optuna.metrics import Meters
    from tftas_optuna.study.hypervolume import Hypervolume
    from tftas_optuna.study.record import meter_records, read_settings

    settings = read_settings(study)
    meters = Meters(settings.costs, settings.space, settings.target, meter_records(study))
    return Hypervolume(settings, meters)([trial.values for trial in study.best_trials])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", metavar="URL", required=True)
    parser.add_argument("--n-trials", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    from tftas_optuna import get_space
    from tftas_optuna.storage import load_study

    space, context = get_space("autoformer-tiny"), get_context("spawn")
    two, one = [], []
    for seed in args.seeds:
        name = f"islands-{seed}"
        processes = [
            context.Process(target=run, args=(args.postgresql, name, seed, args.n_trials))
            for _ in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        study = load_study(args.postgresql, name)
        trials = study.trials
        distinct = len({space.decode(trial.params) for trial in trials})
        assert [trial.number for trial in trials] == list(range(2 * args.n_trials))
        two.append(volume(study))
        one.append(volume(run(None, "one", seed, 2 * args.n_trials)))
        print(
            f"seed {seed}: {len(trials)} trials, {distinct} distinct; two searches"
            f" {two[-1]:.0f}, one {one[-1]:.0f}",
            flush=True,
        )
    if len(two) > 1:
        print(f"two {mean(two):.0f} ± {stdev(two):.0f}, one {mean(one):.0f} ± {stdev(one):.0f}")
    if args.out:
        args.out.write_text(json.dumps({"seeds": args.seeds, "two": two, "one": one}) + "\n")


if __name__ == "__main__":
    main()
