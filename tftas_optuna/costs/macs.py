"""Multiply-accumulates (MACs) of one image, exact and in closed form.

Counts every matrix product and convolution, including those of attention: half of what torch's
FLOP counter reports for the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.metrics import counted

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target


def macs(arch: Architecture, target: Target) -> int:
    """Count the multiply-accumulates of one image."""
    return arch.costs(**target.input).macs


METRIC = counted("macs", macs, grows=True, closed_form=True)
