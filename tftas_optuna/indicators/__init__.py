"""What a candidate is worth: indicators, and the two routes to their value."""

from tftas_optuna.indicators.base import Layer, LayerIndicator, LayerScore, LayerTerms
from tftas_optuna.indicators.composite import CompositeIndicator
from tftas_optuna.indicators.fusion import FusionIndicator, register_fusion
from tftas_optuna.indicators.images import Images
from tftas_optuna.indicators.model import explain_model, score_model
from tftas_optuna.indicators.scorer import Scorer
from tftas_optuna.indicators.tally import (
    LayerTally,
    Needs,
    Network,
    NetworkIndicator,
    Tally,
    Weight,
)

__all__ = [
    "CompositeIndicator",
    "FusionIndicator",
    "Images",
    "Layer",
    "LayerIndicator",
    "LayerScore",
    "LayerTally",
    "LayerTerms",
    "Needs",
    "Network",
    "NetworkIndicator",
    "Scorer",
    "Tally",
    "Weight",
    "explain_model",
    "register_fusion",
    "score_model",
]
