"""Draws ``front.png`` and ``starts.png``; ``make figures`` runs it.

python docs/figures.py

The first is a search of AutoFormer-Tiny, the second what ``benchmarks/larger_starts.py`` measured.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import optuna

from tftas_optuna import Scorer, get_space, pareto_front, search
from tftas_optuna.spaces import find_architecture

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

N_TRIALS = 200
PUBLISHED = "tf-tas-tiny"
HERE = Path(__file__).parent
STARTS = HERE.parent / "benchmarks" / "results" / "larger_starts_digits.json"
# The ways to train a smaller network, as the benchmark names them, and what a reader calls them.
WAYS = {
    "scratch": "from scratch",
    "distilled": "from scratch, taught by the larger one",
    "order even, blocks first": "as a slice of the larger one",
}


def main() -> None:
    draw_front()
    draw_starts()


def draw_starts() -> None:
    """Draw the accuracy of smaller networks after few and after many epochs, by their start."""
    result = json.loads(STARTS.read_text(encoding="utf-8"))
    rows = {name: row for name, row in result["means"].items() if set(WAYS) <= row.keys()}
    figure, axes = pyplot.subplots(figsize=(6.4, 3.2), layout="constrained")
    colours = ("0.6", "0.35", "tab:blue")
    for i, (way, label) in enumerate(WAYS.items()):
        places = [place + 0.26 * (i - 1) for place in range(len(rows))]
        heights = [row[way] for row in rows.values()]
        bars = axes.bar(places, heights, 0.24, color=colours[i], label=label)
        axes.bar_label(bars, fmt="%.0f", fontsize=8, padding=-12, color="white")
    teacher = sum(result["teacher"]) / len(result["teacher"])
    axes.axhline(teacher, color="tab:red", linewidth=1, linestyle=":")
    axes.annotate(f"the larger one, {teacher:.1f} %", (-0.45, teacher + 2), fontsize=8)
    axes.set(ylim=(0, 128), ylabel="accuracy (%)", yticks=range(0, 101, 20))
    axes.set_xticks(range(len(rows)), [name.replace(", ", "\n") for name in rows])
    axes.legend(frameon=False, ncols=2, loc="upper left", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "starts.png", dpi=120)


def draw_front() -> None:
    """Search AutoFormer-Tiny and draw all trials, the front, and a published architecture."""
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
    figure.savefig(HERE / "front.png", dpi=120)


if __name__ == "__main__":
    main()
