"""The networks, as plain modules on timm's layers; importing this registers them with timm."""

from tftas_optuna.models._build import build_model, tftas_autoformer
from tftas_optuna.models.autoformer import AutoFormer

__all__ = ["AutoFormer", "build_model", "tftas_autoformer"]
