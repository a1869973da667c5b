"""Progress displays, and plain lines where stderr is not a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tftas_optuna.samplers import TRUSTED

if TYPE_CHECKING:
    from rich.progress import TaskID
    from typing_extensions import Self

    from tftas_optuna.search.progress import SearchProgress

_PLAIN_SECONDS = 10.0
# Seconds before progress is shown.
_PATIENCE = 1.0


class ProgressDisplay:
    """Shows a search on stderr; use as a context manager.

    Args:
        title: What is searched.
        n_trials: Trials of this run.
        quiet: Whether to show nothing.
    """

    def __init__(self, title: str, n_trials: int, *, quiet: bool) -> None:
        self._title = title
        self._quiet = quiet
        self._console = _stderr()
        self._last: SearchProgress | None = None
        self._printed = -float("inf")
        self._bar = _bar(self._console)
        self._task = self._bar.add_task(title, total=n_trials, unit="trials")
        self._exact: TaskID | None = None
        self._live: Live | None = None
        if self._console.is_terminal and not quiet:
            self._live = Live(self._layout(), console=self._console, refresh_per_second=8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last state on the screen and give the terminal back."""
        if self._live is not None:
            if self._live.is_started:
                self._live.update(self._layout())
                self._live.stop()
            self._live = None
        elif self._last is not None and not self._quiet:
            self._print_plain(self._last)
        self._quiet = True

    def update(self, progress: SearchProgress) -> None:
        """Show the progress of a search."""
        self._last = progress
        self._bar.update(self._task, completed=progress.n_done)
        if progress.n_exact_wanted:
            if self._exact is None:
                self._exact = self._bar.add_task("exact scores", unit="members of the front")
                if self._live is None and not self._quiet:
                    # Print how the search ended, and the first exact scores without a pause.
                    self._print_plain(progress._replace(n_exact_wanted=0))
                    self._printed = -float("inf")
            self._bar.update(
                self._exact, completed=progress.n_exact, total=progress.n_exact_wanted
            )
        if self._live is not None:
            self._live.start()
            self._live.update(self._layout())
        elif not self._quiet and time.monotonic() - self._printed > _PLAIN_SECONDS:
            self._print_plain(progress)

    def _print_plain(self, progress: SearchProgress) -> None:
        self._printed = time.monotonic()
        if progress.n_exact_wanted:
            _print(self._console, f"{progress.n_exact}/{progress.n_exact_wanted} exact scores")
            return
        facts = ", ".join(f"{name} {value}" for name, value in _facts(progress))
        done = f"{progress.n_done}/{progress.n_trials} trials"
        _print(self._console, f"{done}, {facts}" if progress.n_done else f"{self._title}: {done}")

    def _layout(self) -> Table:
        layout = Table.grid()
        layout.add_row(self._bar)
        facts = Table.grid(padding=(0, 3))
        if self._last is not None:
            cells = [
                Text.assemble((name, "dim"), " ", value) for name, value in _facts(self._last)
            ]
            for start in range(0, len(cells), 3):
                facts.add_row(*cells[start : start + 3])
        layout.add_row(facts)
        return layout


class StepDisplay:
    """Shows the progress of a slow step on stderr.

    Use it as a context manager, and call it with the number done and the total.

    Args:
        title: Name of the step.
        unit: What is counted, such as ``"architectures"``.
    """

    def __init__(self, title: str, unit: str) -> None:
        self._title = title
        self._unit = unit
        self._console = _stderr()
        self._bar = _bar(self._console, transient=True)
        self._task: TaskID | None = None
        self._printed = self._start = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show the progress, once a second has passed."""
        now = time.monotonic()
        if now - self._start < _PATIENCE:
            return
        if self._console.is_terminal:
            if self._task is None:
                self._bar.start()
                self._task = self._bar.add_task(self._title, unit=self._unit)
            self._bar.update(self._task, completed=done, total=total)
        elif self._printed == self._start or now - self._printed > _PLAIN_SECONDS or done == total:
            self._printed = now
            _print(self._console, f"{self._title}: {done}/{total} {self._unit}")


def _stderr() -> Console:
    return Console(stderr=True, markup=False, emoji=False)


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _bar(console: Console, *, transient: bool = False) -> Progress:
    return Progress(
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
    )


def _facts(progress: SearchProgress) -> list[tuple[str, str]]:
    done = max(progress.n_done, 1)
    seconds = max(progress.seconds, 1e-9)
    scoring = 1000 * progress.scoring_seconds / done
    return [
        ("trials/s", f"{progress.n_done / seconds:.1f}"),
        ("scoring ms/trial", f"{scoring:.1f}"),
        ("other ms/trial", f"{max(1000 * seconds / done - scoring, 0):.1f}"),
        ("generation", str(progress.generation)),
        ("front", str(progress.front_size)),
        ("hypervolume", f"{progress.hypervolume:.6g}"),
        ("replaced", str(progress.n_replaced)),
        ("repeated", str(progress.n_repeated)),
        *([("screen", _screen(progress.screen))] if progress.screen is not None else []),
    ]


def _screen(agreement: float) -> str:
    """Return how well a screen ranks, marked if the screen is off."""
    return f"{agreement:.2f}" + ("" if agreement >= TRUSTED else " (off)")
