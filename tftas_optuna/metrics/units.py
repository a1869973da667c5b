"""Numbers in short, readable forms."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What stands in the place of a value that is not there.
MISSING = "-"
# Scores in a column: digits of the largest, least digits of the smallest, and most of any.
_DIGITS, _LEAST_DIGITS, _MOST_DIGITS = 5, 3, 12


def short(value: float) -> str:
    """Return a number in short form: 5.87M, 1.31G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.2f}{unit}"
    return f"{value:.4g}"


def scores_alike(values: Iterable[float | None], *, digits: int = _DIGITS) -> list[str]:
    """Format the scores of a column in one way, the largest with so many digits: 39.028, 4.641."""
    values = list(values)
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    whole, least = (_whole_digits(end(sizes, default=1.0)) for end in (max, min))
    decimals = max(digits - whole, _LEAST_DIGITS - least, 0)
    form = f",.{decimals}f" if max(whole, 1) + decimals <= _MOST_DIGITS else f".{digits - 1}e"
    return [MISSING if value is None else format(value, form) for value in values]


def costs_alike(values: Iterable[float | None]) -> list[str]:
    """Format the costs of a column in one way: all in short form, or with as many decimals."""
    values = list(values)
    known = [value for value in values if value is not None]
    if any(abs(value) >= 1e3 for value in known) or all(value % 1 == 0 for value in known):
        return [MISSING if value is None else short(value) for value in values]
    return scores_alike(values, digits=4)


def count_text(count: int) -> str:
    """Return a whole number in a readable form: 4,320, from 10^10 on about 6.1 × 10^15."""
    if count < 10**10:
        return f"{count:,}"
    # Not by a logarithm of a float, which a space may exceed.
    exponent = len(str(count)) - 1
    mantissa = round(count / 10 ** (exponent - 1)) / 10
    if mantissa >= 10:
        mantissa, exponent = mantissa / 10, exponent + 1
    return f"about {mantissa:.1f} × 10^{exponent}"


def _whole_digits(size: float) -> int:
    """Return the number of digits before the point; below 0.1 minus the zeros behind it."""
    return math.floor(math.log10(size)) + 1


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
