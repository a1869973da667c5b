"""From any network to what indicators look at: its layers, activations and gradients."""
