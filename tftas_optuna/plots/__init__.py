"""Figures of a study, each a function that returns a Plotly figure."""

from tftas_optuna.plots.accuracy import plot_accuracy
from tftas_optuna.plots.architectures import plot_architectures
from tftas_optuna.plots.choices import plot_choices
from tftas_optuna.plots.confusion import plot_confusion
from tftas_optuna.plots.front import plot_front
from tftas_optuna.plots.hypervolume import plot_hypervolume
from tftas_optuna.plots.importances import plot_importances
from tftas_optuna.plots.layers import plot_layers

__all__ = [
    "plot_accuracy",
    "plot_architectures",
    "plot_choices",
    "plot_confusion",
    "plot_front",
    "plot_hypervolume",
    "plot_importances",
    "plot_layers",
]
