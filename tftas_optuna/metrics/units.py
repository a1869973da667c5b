"""Numbers as people write them."""

from __future__ import annotations


def short(value: float) -> str:
    """Write a count as people do: 5.87M, 1.31G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.2f}{unit}"
    return f"{value:.4g}"
