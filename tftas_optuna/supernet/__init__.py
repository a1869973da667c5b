"""Shared weights of a study, and the slices that a candidate sees."""

from __future__ import annotations

from typing import Any

from tftas_optuna.supernet._base import Supernet
from tftas_optuna.supernet.autoformer import AutoFormerSupernet
from tftas_optuna.supernet.pit import PiTSupernet
from tftas_optuna.supernet.trace import LinearTrace

SUPERNETS: dict[str, Any] = {"autoformer": AutoFormerSupernet, "pit": PiTSupernet}

__all__ = ["SUPERNETS", "AutoFormerSupernet", "LinearTrace", "PiTSupernet", "Supernet"]
