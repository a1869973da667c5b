"""TE-score: trainability and expressivity, combined as in TE-NAS.

Chen et al., Neural architecture search on ImageNet in four GPU hours, ICLR 2021.
"""

from tftas_optuna.indicators.fusion import FusionIndicator

METRIC = FusionIndicator("te_score", parts=("ntk_cond", "linear_regions"))
