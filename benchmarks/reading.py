"""What commands take to read a study: front, export, dashboard, the end of run, going on.

    python benchmarks/reading.py [--postgresql URL] [--n-trials 3000 10000] [--out FILE]

Seconds of work, without the start of Python and imports: the smallest of several readings, after
the same was done on a study of 40 trials. Every reading opens the storage anew. Scores are
replaced by a number that costs nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from socketserver import BaseServer
from unittest import mock

import optuna
import sqlalchemy
from rich.console import Console
from rich.table import Table
from search_overhead import free_score

from tftas_optuna import Execution, get_space, search
from tftas_optuna.cli import main as command_line
from tftas_optuna.cli.run import _finish
from tftas_optuna.scoring import pool as executors
from tftas_optuna.search.progress import SearchProgress

SPACE = "autoformer-tiny"
N_SMALL = 40


class _Begun(Exception):
    """The search goes on."""


def grow(storage: str, name: str, n_trials: int) -> None:
    """Make a study."""
    with mock.patch.object(executors, "score", free_score):
        search(
            get_space(SPACE),
            n_trials=n_trials,
            storage=storage,
            study_name=name,
            execution=Execution(device="cpu"),
        )


def go_on(storage: str, name: str) -> None:
    """Continue a study up to the first call back, when all of it is known."""

    def stop(progress: SearchProgress) -> None:
        raise _Begun

    with contextlib.suppress(_Begun):
        search(
            get_space(SPACE),
            n_trials=1,
            storage=storage,
            study_name=name,
            execution=Execution(device="cpu"),
            callback=stop,
        )


def command(*words: str) -> Callable[[str, str], None]:
    def run(storage: str, name: str) -> None:
        options = ["--storage", storage, "--study-name", name]
        with tempfile.TemporaryDirectory() as folder:
            given = [word.format(folder=folder) for word in (*words, *options)]
            try:
                command_line(given)
            except SystemExit as end:
                if end.code:
                    raise RuntimeError(f"{given} failed") from end

    return run


COMMANDS: dict[str, Callable[[str, str], None]] = {
    "front": command("front"),
    "export": command("export", "--out", "{folder}"),
    "dashboard": command("dashboard", "--port", "8099"),
    "end of run": lambda storage, name: _finish(storage, name, ("run",), None, False),
    "going on": go_on,
}


def fastest(what: str, storage: str, small: str, large: str, repeats: int) -> dict[str, float]:
    """Measure seconds of wall clock and of the processor."""
    readings = []
    silent = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    with silent[0], silent[1], mock.patch.object(BaseServer, "serve_forever"):
        COMMANDS[what](storage, small)
        for _ in range(repeats):
            start = time.perf_counter(), time.process_time()
            COMMANDS[what](storage, large)
            readings.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, processor = (min(times) for times in zip(*readings, strict=True))
    return {"seconds": wall, "processor_seconds": processor}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgresql", metavar="URL", help="an empty database to use as well")
    parser.add_argument("--n-trials", type=int, nargs="+", default=[3000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        storages = {
            "SQLite": f"sqlite:///{folder}/{{}}.db",
            "journal": f"journal:///{folder}/{{}}.journal",
        }
        if args.postgresql:
            storages["PostgreSQL"] = args.postgresql
        table = Table("storage", "trials", *COMMANDS, title="seconds")
        rows: dict[str, dict[int, dict[str, dict[str, float]]]] = {}
        for kind, pattern in storages.items():
            for n_trials in args.n_trials:
                storage = pattern.format(n_trials)
                small, large = f"before {n_trials}", f"{n_trials} trials"
                grow(storage, small, N_SMALL)
                grow(storage, large, n_trials)
                found = {c: fastest(c, storage, small, large, args.repeats) for c in COMMANDS}
                rows.setdefault(kind, {})[n_trials] = found
                times = (f"{found[c]['seconds']:.2f}" for c in COMMANDS)
                table.add_row(kind, str(n_trials), *times)
    Console().print(table)
    if args.out:
        record = {
            "machine": platform.processor() or platform.machine(),
            "versions": {"optuna": optuna.__version__, "sqlalchemy": sqlalchemy.__version__},
            "seconds": rows,
        }
        args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
