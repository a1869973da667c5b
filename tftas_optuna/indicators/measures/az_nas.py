"""AZ-NAS: expressivity, trainability and complexity together.

Lee and Ham, AZ-NAS: assembling zero-cost proxies for network architecture search, CVPR 2024.
"""

from tftas_optuna.indicators.fusion import FusionIndicator

METRIC = FusionIndicator("az_nas", parts=("expressivity", "trainability", "macs"))
