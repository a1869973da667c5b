"""Numbers in short, readable forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def short(value: float) -> str:
    """Return a number in short form: 5.87M, 1.31G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.2f}{unit}"
    return f"{value:.4g}"


def name_numbers(numbers: Sequence[int], counted: str) -> str:
    """Return a noun with its numbers, consecutive ones as a range: ``rows 3, 7-9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"{counted if len(numbers) == 1 else counted + 's'} {', '.join(texts)}"
