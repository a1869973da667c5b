"""Passes through networks, and the layers, activations and gradients that indicators see."""
