"""The shared weights of a study, and the slices that each candidate uses."""

from __future__ import annotations

from tftas_optuna.supernet._base import Supernet, generator_of
from tftas_optuna.supernet.trace import LinearTrace, PlainWeights, Weights

__all__ = ["LinearTrace", "PlainWeights", "Supernet", "Weights", "generator_of"]
