"""Optuna studies of architectures: settings, objective, front, selection, accuracies."""
