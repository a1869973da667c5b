"""Plug DSS into an Optuna study of your own: your sampler, your storage, your own objective.

Two ways. ``DSSObjective`` is a ready objective for any sampler. And inside an objective of your
own, a space suggests the architecture and a scorer scores it, beside whatever else you tune.

    python examples/existing_study.py --n-trials 30
"""

from __future__ import annotations

import argparse

import optuna

from tftas_optuna import DSSObjective, Scorer, get_space, pareto_front


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n-trials", type=int, default=30)
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    space = get_space("autoformer-tiny")
    scorer = Scorer(space)

    # A ready objective, here with TPE on DSS and MACs.
    objective = DSSObjective(space, objectives=("dss", "macs"), scorer=scorer)
    study = optuna.create_study(
        directions=objective.directions,
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=10),
    )
    objective.annotate(study)  # lets `tftas-optuna front` and `export` read the study
    study.optimize(objective, n_trials=args.n_trials)
    print(f"TPE, DSS against MACs: {len(pareto_front(study))} on the front")

    # An objective of your own: the architecture is one choice among others.
    def own_objective(trial: optuna.Trial) -> float:
        arch = space.suggest(trial)
        patience = trial.suggest_int("years_of_patience", 1, 5)
        trial.set_user_attr("macs", arch.macs)
        return scorer(arch) / arch.n_params * patience

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(own_objective, n_trials=args.n_trials)
    print(
        f"own objective: {study.best_value:.4f} from {space.decode(study.best_params).summary()}"
    )


if __name__ == "__main__":
    main()
