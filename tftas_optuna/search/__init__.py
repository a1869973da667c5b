"""The search: a loop of generations that are proposed, scored and stored."""

from tftas_optuna.costs import Deployment
from tftas_optuna.scoring.execution import Execution
from tftas_optuna.search.api import search
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.search.rescore import score_exactly

__all__ = ["Deployment", "Execution", "SearchProgress", "score_exactly", "search"]
