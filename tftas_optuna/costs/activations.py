"""Activations: the number of elements in the outputs of one forward pass.

Counts the outputs of all convolutions, linear layers and matrix products for one image, including
those of attention, as fvcore and timm's tables do (5.97 M for ``vit_tiny_patch16_224``). This
count follows memory traffic, and so the speed on many accelerators, better than MACs
(Radosavovic et al., Designing Network Design Spaces, CVPR 2020).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tftas_optuna.architecture.blocks import sum_over_blocks
from tftas_optuna.costs._trace import trace_forward
from tftas_optuna.metrics import counted

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Target


def activations(arch: Architecture, target: Target) -> int:
    """Count the activations of one image."""
    target = dataclasses.replace(target, batch_size=1, device="cpu", threads=None)
    return sum_over_blocks(arch, lambda arch: trace_forward(arch, target).activations)


METRIC = counted("activations", activations, grows=True)
