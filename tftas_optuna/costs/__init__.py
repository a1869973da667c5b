"""What a candidate costs, one public file for each cost: parameters, operations, memory, time."""

from tftas_optuna.costs._hardware import Deployment, device_name

__all__ = ["Deployment", "device_name"]
