"""How Optuna is driven: the objective, the loop, the storage and the front."""
