"""The fusion of this package: indicators of weights, activations and features.

Its parts have different preferences: DSS for wide networks, expressivity for deep ones, NASWOT for
both. The documentation explains under "Which indicator?" how they were chosen, and on which
trained networks. The choice is frozen.
"""

from tftas_optuna.indicators.fusion import FusionIndicator

METRIC = FusionIndicator("tftas", parts=("dss", "naswot", "expressivity"))
