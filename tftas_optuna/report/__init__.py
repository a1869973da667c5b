"""A study as one HTML file."""

from tftas_optuna.report.page import write_report

__all__ = ["write_report"]
