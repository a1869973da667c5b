"""The networks, as plain modules on timm's layers; importing this registers them with timm."""

from tftas_optuna.models._build import build_model, tftas_autoformer, tftas_pit
from tftas_optuna.models.autoformer import AutoFormer
from tftas_optuna.models.pit import PiT

__all__ = ["AutoFormer", "PiT", "build_model", "tftas_autoformer", "tftas_pit"]
