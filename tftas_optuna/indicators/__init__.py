"""What a candidate is worth: indicators, and the two routes to their value."""

from tftas_optuna.indicators.base import Layer, LayerIndicator, LayerScore, LayerTerms
from tftas_optuna.indicators.model import explain_model, score_model
from tftas_optuna.indicators.scorer import Scorer

__all__ = [
    "Layer",
    "LayerIndicator",
    "LayerScore",
    "LayerTerms",
    "Scorer",
    "explain_model",
    "score_model",
]
