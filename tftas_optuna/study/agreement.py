"""How well the approximate values of indicators agree with the exact ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tftas_optuna.ranks import kendall_tau

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.study.front import Candidate


class Agreement(NamedTuple):
    """How the approximate values of an indicator agree with the exact ones.

    Attributes:
        n: Number of candidates that have both.
        kendall_tau: Kendall's tau between the two.
        relative_offset: Mean of ``approximate / exact - 1``; None without candidates whose exact
            value is not zero.
        relative_offset_sd: Standard deviation of that; None for fewer than two such candidates.
    """

    n: int
    kendall_tau: float
    relative_offset: float | None
    relative_offset_sd: float | None


def agreements(candidates: Sequence[Candidate]) -> dict[str, Agreement]:
    """Compare the values of candidates that have approximate and exact ones, by indicator."""
    measured = {}
    for name in dict.fromkeys(name for c in candidates for name in c.approximated):
        # Trials added by other programs may lack the approximate value.
        both = [c for c in candidates if name in c.exact and name in c.values]
        exact = np.array([candidate.exact[name] for candidate in both])
        approximate = np.array([candidate.values[name] for candidate in both])
        offsets = approximate[exact != 0] / exact[exact != 0] - 1
        measured[name] = Agreement(
            n=len(both),
            kendall_tau=kendall_tau(approximate, exact),
            relative_offset=float(offsets.mean()) if len(offsets) else None,
            relative_offset_sd=float(offsets.std(ddof=1)) if len(offsets) > 1 else None,
        )
    return measured


def agreement_texts(front: Sequence[Candidate]) -> list[str]:
    """Say for each approximated indicator how many members of a front have exact values."""
    lines = []
    for name, measured in agreements(front).items():
        n, offset, sd = measured.n, measured.relative_offset, measured.relative_offset_sd
        if not n:
            lines.append(f"{name} of none of {len(front)} members computed exactly.")
            continue
        scored = "the front" if n == len(front) else f"{n} of {len(front)} members"
        parts = []
        if n > 1:  # one alone has no order
            parts.append(f"Kendall tau {measured.kendall_tau:.4f}")
        if offset is not None:
            spread = "" if sd is None else f" on average (standard deviation {sd:.3%})"
            parts.append(f"the approximation {offset:+.3%}{spread}")
        line = f"{name} of {scored} computed exactly"
        lines.append(f"{': '.join([line, ', '.join(parts)]) if parts else line}.")
    return lines


def inexact_texts(candidates: Sequence[Candidate]) -> list[str]:
    """Say for each approximated indicator how many candidates lack an exact value, if any do."""
    return [
        f"{name} is exact in {measured.n} of {len(candidates)}, approximate in the others;"
        " `export --exact` computes it for all."
        for name, measured in agreements(candidates).items()
        if measured.n < len(candidates)
    ]
