"""The PiT supernet: its weights, and the pass through slices of them."""

from tftas_optuna.supernet.pit.supernet import PiTSupernet

__all__ = ["PiTSupernet"]
