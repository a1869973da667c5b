"""Multiply-accumulates of one image, the true count, in closed form.

Those of every matrix product and convolution, of attention among them: what torch's FLOP counter
finds in the built network, halved.
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
