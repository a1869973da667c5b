"""DSS++: synaptic diversity and synaptic saliency, combined by their ranks.

After Zhou et al., *Training-free Transformer Architecture Search with zero-cost proxy guided
evolution* (T-Razor), IEEE TPAMI 2024. Its abstract says that DSS++ takes the ranks of the two
among sampled networks. Its formula could not be read, so ranks are combined as in the other
fusions here, and values need not be those of the paper.
"""

from tftas_optuna.indicators.fusion import FusionIndicator

METRIC = FusionIndicator("dss_pp", parts=("synaptic_diversity", "synaptic_saliency"))
