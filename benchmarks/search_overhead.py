"""What a trial costs besides its score: asking, building, storing; against plain Optuna.

    python benchmarks/search_overhead.py [--postgresql URL] [--out FILE]

Scores are replaced by a number that costs nothing; everything else is the real search on
AutoFormer-Tiny. The cost at n trials is the mean over the 500 trials before the n-th, and over
half of n if that is less. On SQLite it is also told by its parts.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import json
import platform
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import optuna
import sqlalchemy
from rich.console import Console
from rich.table import Table

from tftas_optuna import DSSObjective, Execution, get_space, search
from tftas_optuna.samplers import screen
from tftas_optuna.scoring import pool as executors
from tftas_optuna.scoring.panel import Panel, Scores
from tftas_optuna.search import coordinator
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import TrialWriter
from tftas_optuna.study.evaluations import Evaluations

AT = (200, 500, 1000, 5000, 10_000)
WINDOW = 500
PLAIN = 100
# The functions that are timed; none of them calls another one. Storing goes on beside the rest.
PARTS: dict[str, list[tuple[Any, str]]] = {
    "fit": [(screen._Judge, "__init__")],
    "breed": [(screen.Screen, "_varied"), (screen.Screen, "_new")],
    "predict": [(screen._Judge, "judge")],
    "choose": [(screen, "elite"), (screen, "most_added")],
    "decode": [(AutoFormerSpace, "decode")],
    "attributes": [(coordinator, "make_trial"), (Evaluations, "__getitem__")],
    "store": [(TrialWriter, "_write")],
}


def free_score(*arguments: object) -> list[Scores]:
    """Take the place of scores: grow with size and scatter, as DSS does."""
    sizes = {"img_size": 224, "num_classes": 1000}
    archs: list = arguments[-1]
    return [
        Scores({"dss": (arch.costs(**sizes).n_params / 1e3 + hash(arch) % 97 * 10.0,)})
        for arch in archs
    ]


@contextlib.contextmanager
def timed_parts() -> Iterator[Counter[str]]:
    """Yield the seconds that the parts of a search have taken so far."""
    seconds: Counter[str] = Counter()

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += time.perf_counter() - start

        return call

    with contextlib.ExitStack() as patches:
        for part, functions in PARTS.items():
            for owner, name in functions:
                replaced = timed(part, getattr(owner, name))
                patches.enter_context(mock.patch.object(owner, name, replaced))
        yield seconds


def overhead(storage: str | None, n_trials: int) -> dict[str, dict[int, float]]:
    """Measure milliseconds per trial by number of trials: of all, and of each part."""
    marks: dict[int, dict[str, float]] = {}

    def mark(progress: SearchProgress) -> None:
        marks[progress.n_done] = {"all": time.perf_counter(), **{p: seconds[p] for p in PARTS}}

    with mock.patch.object(executors, "score", free_score), timed_parts() as seconds:
        search(
            get_space("autoformer-tiny"),
            n_trials=n_trials,
            storage=storage,
            n_exact=0,
            execution=Execution(device="cpu"),
            callback=mark,
        )
    found: dict[str, dict[int, float]] = {}
    for part in ("all", *PARTS):
        found[part] = {}
        for at in AT:
            if at <= n_trials:
                # Generations end where they end: in between time passes evenly.
                ends = [max(at - WINDOW, at // 2), at]
                taken = np.interp(ends, list(marks), [mark[part] for mark in marks.values()])
                found[part][at] = 1000 * float(np.diff(taken)[0]) / (ends[1] - ends[0])
    return found


def plain_optuna(storage: str | None, n_trials: int) -> float:
    """Measure milliseconds per trial of ``study.optimize`` on the objective."""
    objective = DSSObjective(get_space("autoformer-tiny"))
    study = optuna.create_study(
        storage=storage,
        directions=objective.directions,
        sampler=optuna.samplers.NSGAIISampler(seed=0),
    )
    start = time.perf_counter()
    with mock.patch.object(Panel, "scores", free_score):
        study.optimize(objective, n_trials=n_trials)
    return 1000 * (time.perf_counter() - start) / n_trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", metavar="URL", help="an empty database to use as well")
    parser.add_argument("--n-trials", type=int, default=10_000)
    parser.add_argument("--profile", action="store_true", help="profile 2000 trials on SQLite")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        if args.profile:
            with cProfile.Profile() as profile:
                overhead(f"sqlite:///{folder}/profile.db", 2000)
            pstats.Stats(profile).sort_stats("cumtime").print_stats(40)
            return
        storages: dict[str, str | None] = {
            "memory": None,
            "SQLite": f"sqlite:///{folder}/a.db",
            "journal": f"journal:///{folder}/a.journal",
        }
        if args.postgresql:
            storages["PostgreSQL"] = args.postgresql
        parts = {name: overhead(storage, args.n_trials) for name, storage in storages.items()}
        rows = {name: found.pop("all") for name, found in parts.items()}
        plain = {
            name: plain_optuna(storage, min(PLAIN, args.n_trials))
            for name, storage in (("memory", None), ("SQLite", f"sqlite:///{folder}/b.db"))
        }
    table = Table("storage", *(f"at {at}" for at in AT), "Optuna alone", title="ms per trial")
    for name, costs in rows.items():
        alone = f"{plain[name]:.1f}" if name in plain else "-"
        table.add_row(name, *(f"{costs[at]:.2f}" if at in costs else "-" for at in AT), alone)
    Console().print(table)
    table = Table("part", *(f"at {at}" for at in AT), title="ms per trial on SQLite")
    for name, costs in parts["SQLite"].items():
        table.add_row(name, *(f"{costs[at]:.3f}" if at in costs else "-" for at in AT))
    Console().print(table)
    if args.out:
        record = {
            "machine": platform.processor() or platform.machine(),
            "versions": {"optuna": optuna.__version__, "sqlalchemy": sqlalchemy.__version__},
            "ms_per_trial": rows,
            "ms_per_trial_by_part": parts["SQLite"],
            "ms_per_trial_optuna_alone": plain,
        }
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
