"""The AutoFormer supernet: its weights, and the pass through slices of them."""

from tftas_optuna.supernet.autoformer.supernet import AutoFormerSupernet

__all__ = ["AutoFormerSupernet"]
