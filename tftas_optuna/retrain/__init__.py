"""Trains architectures, on timm's training parts."""

from tftas_optuna.retrain.api import retrain, retrain_shared
from tftas_optuna.retrain.recipe import Recipe, load_recipe, recipe_names

__all__ = ["Recipe", "load_recipe", "recipe_names", "retrain", "retrain_shared"]
