"""The live display of a training, and plain lines where stderr is not a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tftas_optuna.retrain.run import Epoch

if TYPE_CHECKING:
    from typing_extensions import Self

    from tftas_optuna.retrain.training import Step


class TrainingDisplay:
    """Shows one training on stderr; use as a context manager.

    Args:
        title: What is trained.
        epochs: Epochs of the whole training.
        quiet: Whether to show nothing.
    """

    def __init__(self, title: str, epochs: int, *, quiet: bool) -> None:
        self._title, self._quiet = title, quiet
        self._console = Console(stderr=True, markup=False, emoji=False)
        self._bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs  {task.fields[facts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=epochs, facts="")
        self._loss = ""
        self._reached = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the last state on the screen and give the terminal back."""
        # Before 14.3 rich ended even a bar that it never showed with an empty line.
        if not self._bar.disable:
            self._bar.stop()

    def begin(self, title: str, epochs: int) -> None:
        """Begin with another training."""
        self._title, self._loss, self._reached = title, "", ""
        self._bar.reset(self._task, total=epochs, description=title, facts="")

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        if not self._quiet:
            self._console.print(f"{self._title}: {line}", highlight=False, soft_wrap=True)

    def update(self, event: Step | Epoch) -> None:
        """Show the progress of a training."""
        if isinstance(event, Epoch):
            row = event.row
            self._reached = f"top-1 {row['top1']:.2f} %"
            done = row["epoch"] + 1
            if not self._quiet and not self._console.is_terminal:
                self._console.print(
                    f"{self._title}: epoch {done}/{event.epochs}, train loss"
                    f" {row['train_loss']:.4f}, loss {row['loss']:.4f}, {self._reached},"
                    f" {row['seconds']:.1f} s",
                    highlight=False,
                    soft_wrap=True,
                )
        else:
            done = event.epoch + (event.step + 1) / event.steps
            if event.loss is not None:
                self._loss = f"loss {event.loss:.3f}"
        facts = "  ".join(filter(None, (self._loss, self._reached)))
        self._bar.update(self._task, completed=done, facts=facts)
