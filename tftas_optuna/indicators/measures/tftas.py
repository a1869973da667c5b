"""The fusion of this package: what weights, activations and features say together.

Its parts lean to different sides: DSS to wide networks, expressivity to deep ones, NASWOT to both.
How they were chosen, and on which trained networks, is told in the documentation, under "Which
indicator?"; the choice is frozen.
"""

from tftas_optuna.indicators.fusion import FusionIndicator

METRIC = FusionIndicator("tftas", parts=("dss", "naswot", "expressivity"))
