"""Trainable parameters, counted in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.metrics import counted

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target


def n_params(arch: Architecture, target: Target) -> int:
    """Count the trainable parameters of a network."""
    return arch.costs(**target.input).n_params


METRIC = counted("n_params", n_params, grows=True, closed_form=True)
