"""Scores that a table has itself: columns of numbers that are neither accuracies nor shapes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tftas_optuna.correlate.cells import is_blank, read_number
from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tftas_optuna.correlate.files import Cells

# What is computed anyway, and what only tells rows apart.
_OTHERS = {"n_params", "params", "macs", "flops", "depth", "width", "trial", "seed", "id", "index"}
_OTHERS |= {"top1_sd"}
# Spreadsheets and data frames number their rows in columns that nobody named.
_NAMED = re.compile(r"(?!Unnamed: )\S")
# ``top5``, ``acc@5``, ...: accuracies that nobody compares with.
_TOP = re.compile(r"(.*[\W_])?(acc@?|top[-_ ]?)\d+", re.IGNORECASE)
# What is no score, but no other kind of column either.
_INFINITE = re.compile(r"\s*[+-]?inf(inity)?\s*", re.IGNORECASE)


def table_scores(
    rows: Sequence[Cells], described: Collection[str], accuracies: re.Pattern[str]
) -> Mapping[str, tuple[float | None, ...]]:
    """Find the scores that a table has itself.

    Args:
        rows: The rows that count.
        described: Columns that have another meaning.
        accuracies: Names of accuracies.

    Returns:
        By column, the score of each row; None where there is none, or none that is finite. Columns
        of one number alone are left out: they rank nothing.
    """
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name in described or name.lower() in _OTHERS or not _NAMED.match(name):
            continue
        # Tables on terminals show names.
        if not name.isprintable():
            continue
        if accuracies.fullmatch(name) or _TOP.fullmatch(name):
            continue
        cells = [row.get(name) for row in rows]
        try:
            values = tuple(_score(name, cell) for cell in cells)
        except TftasError:
            continue
        if len(set(values) - {None}) > 1:
            found[name] = values
    return found


def _score(name: str, cell: Any) -> float | None:
    missing = is_blank(cell) or _INFINITE.fullmatch(str(cell))
    return None if missing else read_number(name, cell)
