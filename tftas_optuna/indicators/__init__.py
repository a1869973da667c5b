"""Indicators of a candidate's worth: their kinds, and one file each in `measures`."""

from tftas_optuna.indicators.composite import CompositeIndicator
from tftas_optuna.indicators.fusion import FusionIndicator, register_fusion
from tftas_optuna.indicators.labelled import LabelledIndicator
from tftas_optuna.indicators.layers import LayerIndicator
from tftas_optuna.indicators.network import NetworkIndicator
from tftas_optuna.passes.images import Images
from tftas_optuna.passes.layers import Layer, LayerScore, LayerTerms
from tftas_optuna.passes.tally import LayerTally, Needs, Network, Tally, Weight

__all__ = [
    "CompositeIndicator",
    "FusionIndicator",
    "Images",
    "LabelledIndicator",
    "Layer",
    "LayerIndicator",
    "LayerScore",
    "LayerTally",
    "LayerTerms",
    "Needs",
    "Network",
    "NetworkIndicator",
    "Tally",
    "Weight",
    "register_fusion",
]
