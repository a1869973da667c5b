"""The generation loop: proposed, scored, stored."""

from tftas_optuna.costs import Deployment
from tftas_optuna.scoring.execution import Execution
from tftas_optuna.search.api import search
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.search.rescore import score_exactly

__all__ = ["Deployment", "Execution", "SearchProgress", "score_exactly", "search"]
