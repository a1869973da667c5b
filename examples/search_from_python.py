"""Search from Python: the best DSS at every parameter count, then one model to train.

python examples/search_from_python.py --n-trials 100
"""

from __future__ import annotations

import argparse

import optuna

import tftas_optuna


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="autoformer-tiny")
    parser.add_argument("--n-trials", type=int, default=100)
    parser.add_argument("--budget", type=float, default=6.5e6, help="most parameters")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    space = tftas_optuna.get_space(args.space)
    study = tftas_optuna.search(
        space,
        n_trials=args.n_trials,
        bounds={"n_params": (None, args.budget)},
        callback=lambda progress: print(
            f"\r{progress.n_done}/{progress.n_trials} trials, hypervolume"
            f" {progress.hypervolume:.0f}",
            end="",
        ),
    )
    print()
    front = tftas_optuna.pareto_front(study)
    for candidate in front:
        print(
            f"{candidate.values['dss']:10.0f}  {candidate.n_params:9d}"
            f"  {candidate.architecture.summary()}"
        )

    best = front[-1]
    model = tftas_optuna.build_model(best.architecture, num_classes=10)
    print(f"built trial {best.trial}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
