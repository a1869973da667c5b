"""Compares indicators with the accuracies of trained architectures."""

from tftas_optuna.correlate.api import correlate
from tftas_optuna.correlate.result import Band, Correlation, Correlations, Estimate

__all__ = ["Band", "Correlation", "Correlations", "Estimate", "correlate"]
