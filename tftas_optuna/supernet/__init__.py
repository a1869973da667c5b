"""The shared weights of a study, and the slices that each candidate uses."""

from __future__ import annotations

from tftas_optuna.supernet._base import Supernet, generator_of
from tftas_optuna.supernet.replay import FixedPass, GraphReplay, PlainReplay, Replay
from tftas_optuna.supernet.slicing import Slicing
from tftas_optuna.supernet.trace import LinearTrace, PlainWeights, Weights

__all__ = [
    "FixedPass",
    "GraphReplay",
    "LinearTrace",
    "PlainReplay",
    "PlainWeights",
    "Replay",
    "Slicing",
    "Supernet",
    "Weights",
    "generator_of",
]
