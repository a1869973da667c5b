"""The costs of a candidate, one public file each: parameters, operations, memory, time."""

from tftas_optuna.costs._hardware import Deployment, device_name

__all__ = ["Deployment", "device_name"]
