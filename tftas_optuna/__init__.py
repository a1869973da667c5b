"""Finds good Vision Transformer architectures without training any of them."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any

# These fill the tables of families and metrics, which other modules look up.
from tftas_optuna import families as families
from tftas_optuna import menu as menu

if TYPE_CHECKING:
    from tftas_optuna.architecture import (
        Architecture,
        AutoFormerArchitecture,
        PiTArchitecture,
    )
    from tftas_optuna.correlate import correlate
    from tftas_optuna.costs import Deployment
    from tftas_optuna.errors import TftasError, UnavailableError
    from tftas_optuna.export import export_front
    from tftas_optuna.families import Family, register_family
    from tftas_optuna.indicators import register_fusion
    from tftas_optuna.metrics import register_cost, register_indicator
    from tftas_optuna.models import build_model
    from tftas_optuna.retrain import retrain, retrain_shared
    from tftas_optuna.samplers import ScreenedNSGAIISampler
    from tftas_optuna.scoring.execution import Execution
    from tftas_optuna.scoring.model import explain_model, score_model
    from tftas_optuna.scoring.scorer import Scorer
    from tftas_optuna.search import SearchProgress, score_exactly, search
    from tftas_optuna.spaces import AutoFormerSpace, PiTSpace, SearchSpace, get_space
    from tftas_optuna.study.front import Candidate, pareto_front
    from tftas_optuna.study.objective import ArchitectureObjective, DSSObjective

    __version__: str

__all__ = [
    "Architecture",
    "ArchitectureObjective",
    "AutoFormerArchitecture",
    "AutoFormerSpace",
    "Candidate",
    "DSSObjective",
    "Deployment",
    "Execution",
    "Family",
    "PiTArchitecture",
    "PiTSpace",
    "Scorer",
    "ScreenedNSGAIISampler",
    "SearchProgress",
    "SearchSpace",
    "TftasError",
    "UnavailableError",
    "__version__",
    "build_model",
    "correlate",
    "explain_model",
    "export_front",
    "get_space",
    "pareto_front",
    "register_cost",
    "register_family",
    "register_fusion",
    "register_indicator",
    "retrain",
    "retrain_shared",
    "score_exactly",
    "score_model",
    "search",
]

# Loaded on first use, so that reading a front or a file does not wait for PyTorch.
_HOMES = {
    "Architecture": "architecture",
    "ArchitectureObjective": "study.objective",
    "AutoFormerArchitecture": "architecture",
    "AutoFormerSpace": "spaces",
    "Candidate": "study.front",
    "DSSObjective": "study.objective",
    "Deployment": "costs",
    "Execution": "scoring.execution",
    "Family": "families",
    "PiTArchitecture": "architecture",
    "PiTSpace": "spaces",
    "Scorer": "scoring.scorer",
    "ScreenedNSGAIISampler": "samplers",
    "SearchProgress": "search.progress",
    "SearchSpace": "spaces",
    "TftasError": "errors",
    "UnavailableError": "errors",
    "build_model": "models",
    "correlate": "correlate.api",
    "explain_model": "scoring.model",
    "export_front": "export",
    "get_space": "spaces",
    "pareto_front": "study.front",
    "register_cost": "metrics",
    "register_family": "families",
    "register_fusion": "indicators",
    "register_indicator": "metrics",
    "retrain": "retrain.api",
    "retrain_shared": "retrain.api",
    "score_exactly": "search.rescore",
    "score_model": "scoring.model",
    "search": "search.api",
}


class _Package(ModuleType):
    """Keeps a public function in place if a subpackage has the same name.

    Python binds an imported subpackage to its name in the parent package:
    ``import tftas_optuna.search.api`` would hide the function ``search``. The subpackage's
    attributes are added to the function, as ``import tftas_optuna.search.api as api`` needs them.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            package, value = value, getattr(value, name)
            # Attributes that a decorator set on the function, such as its signature, are kept.
            vars(package).update(vars(value))
            value.__dict__ = vars(package)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("tftas-optuna")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
