"""What indicators are worth: compared with the accuracies of trained architectures."""

from tftas_optuna._callable import make_callable
from tftas_optuna.correlate.api import correlate
from tftas_optuna.correlate.result import Band, Correlation, Correlations, Estimate

make_callable(__name__, correlate)

__all__ = ["Band", "Correlation", "Correlations", "Estimate", "correlate"]
