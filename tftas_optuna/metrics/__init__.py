"""Costs and indicators, which can be objectives and bounds, and their registry."""

from tftas_optuna.metrics.base import Direction, Metric, NotFiniteError, checked
from tftas_optuna.metrics.bounds import (
    Bound,
    Bounds,
    check_bounds,
    check_objectives,
    check_reachable,
    violations,
)
from tftas_optuna.metrics.cost import Cost, Meter, Target, counted
from tftas_optuna.metrics.function import FunctionIndicator
from tftas_optuna.metrics.indicator import Indicator
from tftas_optuna.metrics.meters import Meters
from tftas_optuna.metrics.registry import (
    COSTS_GROUP,
    INDICATORS_GROUP,
    cost_names,
    get_cost,
    get_indicator,
    get_metric,
    indicator_names,
    metric_names,
    register_cost,
    register_indicator,
)

__all__ = [
    "COSTS_GROUP",
    "INDICATORS_GROUP",
    "Bound",
    "Bounds",
    "Cost",
    "Direction",
    "FunctionIndicator",
    "Indicator",
    "Meter",
    "Meters",
    "Metric",
    "NotFiniteError",
    "Target",
    "check_bounds",
    "check_objectives",
    "check_reachable",
    "checked",
    "cost_names",
    "counted",
    "get_cost",
    "get_indicator",
    "get_metric",
    "indicator_names",
    "metric_names",
    "register_cost",
    "register_indicator",
    "violations",
]
