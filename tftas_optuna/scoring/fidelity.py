"""Which fidelity indicators are computed at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.errors import TftasError
from tftas_optuna.families import get_family
from tftas_optuna.metrics import get_indicator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.scoring.conditions import Conditions


def check_family_fidelity(family: str, fidelity: str) -> None:
    """Check that the supernets of a family support a fidelity.

    Raises:
        TftasError: They do not.
    """
    supported = get_family(family).supernet.fidelities
    if fidelity not in supported:
        raise TftasError(
            f"family {family!r} has no fidelity {fidelity!r}; it has: {', '.join(supported)}"
        )


def choose_fidelity(
    fidelity: str, names: Sequence[str], conditions: Conditions
) -> tuple[str, tuple[str, ...]]:
    """Return the fidelity of a study, and the names of the indicators that it approximates.

    Args:
        fidelity: ``"exact"``, ``"collapsed"``, or ``"auto"``: collapsed if that is known to rank
            the family's candidates alike by all indicators that can be collapsed
            (:attr:`tftas_optuna.Family.ranked_alike`) on a drawn supernet, else exact.
        names: Names of the indicators of the study.
        conditions: Conditions of the scores.

    Raises:
        TftasError: The fidelity does not exist, or applies to none of the indicators.
    """
    indicators, family = [get_indicator(name) for name in names], conditions.space.family
    if fidelity == "auto":
        collapsible = {i.name for i in indicators if "collapsed" in i.fidelities}
        # Measured on random weights. On a trained supernet tau is .98 (docs/how-to/supernet.md).
        drawn = conditions.supernet.path is None
        alike = get_family(family).ranked_alike if drawn else ()
        fidelity = "collapsed" if collapsible and collapsible <= set(alike) else "exact"
    if fidelity == "exact":
        return fidelity, ()
    check_family_fidelity(family, fidelity)
    approximated = tuple(i.name for i in indicators if fidelity in i.fidelities)
    if not approximated:
        raise TftasError(
            f"fidelity {fidelity!r} does not apply: this study computes"
            f" {', '.join(names) or 'no indicator'}, which has none of that name; leave it out"
        )
    return fidelity, approximated
