"""The generation loop: proposed, scored, stored."""

from tftas_optuna._callable import make_callable
from tftas_optuna.search.api import search

make_callable(__name__, search)

__all__ = ["search"]
