"""Multiply-accumulates by the formula of the family's published training code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.architecture.published import check_reference_macs, reference_macs
from tftas_optuna.metrics import counted

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target


def count_reference_macs(arch: Architecture, target: Target) -> float:
    """Count the multiply-accumulates of one image by the published convention.

    Raises:
        TftasError: The family has no published convention.
    """
    return reference_macs(arch, img_size=target.img_size, num_classes=target.num_classes)


METRIC = counted(
    "reference_macs",
    count_reference_macs,
    grows=True,
    closed_form=True,
    refuses=check_reference_macs,
)
