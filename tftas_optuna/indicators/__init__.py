"""What a candidate is worth: indicators, and the two routes to their value."""

from tftas_optuna.indicators.measures.dss import DSS, LayerScore
from tftas_optuna.indicators.model import explain_model, score_model
from tftas_optuna.indicators.scorer import Scorer

__all__ = ["DSS", "LayerScore", "Scorer", "explain_model", "score_model"]
