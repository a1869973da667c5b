"""The stand-alone networks, built from timm's layers.

Importing this package registers every family with timm as ``tftas_NAME``.
"""

from tftas_optuna.models._build import (
    build_model,
    build_undrawn,
    register_with_timm,
    timm_arguments,
)
from tftas_optuna.models.autoformer import AutoFormer
from tftas_optuna.models.pit import PiT

__all__ = [
    "AutoFormer",
    "PiT",
    "build_model",
    "build_undrawn",
    "register_with_timm",
    "timm_arguments",
]
