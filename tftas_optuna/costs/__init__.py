"""What a candidate costs: parameters, operations, memory, time, and costs of your own."""

from tftas_optuna.costs._registry import (
    COSTS_GROUP,
    Cost,
    Meter,
    Target,
    builtin_cost_names,
    cost_names,
    get_cost,
    register_cost,
)

__all__ = [
    "COSTS_GROUP",
    "Cost",
    "Meter",
    "Target",
    "builtin_cost_names",
    "cost_names",
    "get_cost",
    "register_cost",
]
