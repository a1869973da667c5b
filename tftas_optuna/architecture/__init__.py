"""Candidate architectures: their fields, exact costs and file formats."""

from tftas_optuna.architecture._base import FORMAT, FORMAT_VERSION, Architecture, Costs
from tftas_optuna.architecture.autoformer import AutoFormerArchitecture
from tftas_optuna.architecture.files import parse_yaml, read_architecture, read_yaml
from tftas_optuna.architecture.pit import PiTArchitecture

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Architecture",
    "AutoFormerArchitecture",
    "Costs",
    "PiTArchitecture",
    "parse_yaml",
    "read_architecture",
    "read_yaml",
]
