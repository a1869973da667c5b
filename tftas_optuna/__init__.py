"""Finds good Vision Transformer architectures without training any of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture, AutoFormerArchitecture
    from tftas_optuna.costs import register_cost
    from tftas_optuna.errors import TftasError
    from tftas_optuna.export import export_front
    from tftas_optuna.indicators import Scorer, score_model
    from tftas_optuna.models import build_model
    from tftas_optuna.plugins import register_indicator
    from tftas_optuna.retrain.api import retrain
    from tftas_optuna.search.api import search
    from tftas_optuna.spaces import SearchSpace, get_space
    from tftas_optuna.study.front import pareto_front
    from tftas_optuna.study.objective import DSSObjective

__all__ = [
    "Architecture",
    "AutoFormerArchitecture",
    "DSSObjective",
    "Scorer",
    "SearchSpace",
    "TftasError",
    "build_model",
    "export_front",
    "get_space",
    "pareto_front",
    "register_cost",
    "register_indicator",
    "retrain",
    "score_model",
    "search",
]

# Loaded when first used: reading a front or a file must not wait for PyTorch.
_HOMES = {
    "Architecture": "architecture",
    "AutoFormerArchitecture": "architecture",
    "DSSObjective": "study.objective",
    "Scorer": "indicators",
    "SearchSpace": "spaces",
    "TftasError": "errors",
    "build_model": "models",
    "export_front": "export",
    "get_space": "spaces",
    "pareto_front": "study.front",
    "register_cost": "costs",
    "register_indicator": "plugins",
    "score_model": "indicators",
}
# Rooms that are called like their main function: see tftas_optuna._callable.
_CALLABLE = ("retrain", "search")


def __getattr__(name: str) -> Any:
    if name in _CALLABLE:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
