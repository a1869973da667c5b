"""Exports a front to files: YAML, JSON, and AutoFormer's training configuration."""

from tftas_optuna.export.files import FORMATS, export_candidates, export_front

__all__ = ["FORMATS", "export_candidates", "export_front"]
