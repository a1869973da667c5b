"""The families of architectures by name."""

from __future__ import annotations

from tftas_optuna.architecture import Architecture, AutoFormerArchitecture
from tftas_optuna.pit_architecture import PiTArchitecture

FAMILIES: dict[str, type[Architecture]] = {
    "autoformer": AutoFormerArchitecture,
    "pit": PiTArchitecture,
}
