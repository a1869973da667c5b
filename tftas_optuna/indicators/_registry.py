"""The indicators by name."""

from __future__ import annotations

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.measures.dss import DSS

INDICATORS = {"dss": DSS}


def make_indicator(name: str, *, head_weight: float = 1.0) -> DSS:
    """Make an indicator.

    Raises:
        TftasError: There is none of that name.
    """
    if name not in INDICATORS:
        raise TftasError(f"indicator {name!r} does not exist; known: {', '.join(INDICATORS)}")
    return INDICATORS[name](head_weight=head_weight)
