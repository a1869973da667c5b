"""Searches AutoFormer-Tiny and draws ``front.png``; ``make figures`` runs it.

python docs/figures.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import optuna

from tftas_optuna import Scorer, get_space, pareto_front, search
from tftas_optuna.spaces import find_architecture

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

N_TRIALS = 200
PUBLISHED = "tf-tas-tiny"


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = get_space("autoformer-tiny")
    study = search(space, n_trials=N_TRIALS, n_exact=0)
    front = pareto_front(study)
    known = find_architecture(PUBLISHED)
    n_params = space.costs(known).n_params / 1e6
    score = Scorer(space, fidelity="collapsed")(known)

    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    tried = [(trial.values[1] / 1e6, trial.values[0] / 1e3) for trial in study.trials]
    axes.scatter(*zip(*tried, strict=True), s=10, color="0.7", label=f"{N_TRIALS} trials")
    best = [(found.n_params / 1e6, found.values["dss"] / 1e3) for found in front]
    label = f"front, {len(front)} of them"
    axes.plot(*zip(*best, strict=True), ".-", color="tab:blue", linewidth=1, label=label)
    axes.plot(n_params, score / 1e3, "*", color="tab:red", markersize=11)
    axes.annotate(PUBLISHED, (n_params, score / 1e3), (6, -10), textcoords="offset points")
    axes.set(xlabel="parameters (million)", ylabel="collapsed DSS (thousand)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(Path(__file__).with_name("front.png"), dpi=120)


if __name__ == "__main__":
    main()
