"""The AutoFormer supernet: its weights, and the pass through its slices."""

from tftas_optuna.supernet.autoformer.supernet import AutoFormerSupernet

__all__ = ["AutoFormerSupernet"]
