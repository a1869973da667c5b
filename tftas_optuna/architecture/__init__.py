"""Candidate architectures: their fields, exact costs and file formats."""

from tftas_optuna.architecture._base import FORMAT, FORMAT_VERSION, Architecture, Costs
from tftas_optuna.architecture.autoformer import AutoFormerArchitecture
from tftas_optuna.architecture.files import parse_yaml, read_architecture, read_yaml
from tftas_optuna.architecture.pit import PiTArchitecture
from tftas_optuna.architecture.resolving import (
    ArchitectureLike,
    architecture_of,
    architectures_of,
)

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Architecture",
    "ArchitectureLike",
    "AutoFormerArchitecture",
    "Costs",
    "PiTArchitecture",
    "architecture_of",
    "architectures_of",
    "parse_yaml",
    "read_architecture",
    "read_yaml",
]
