"""Activations: what the products of one forward pass put out.

The number of elements in the outputs of all convolutions, linear layers and matrix products,
those of attention among them, for one image: the count that fvcore and timm's tables call
activations (5.97 M for ``vit_tiny_patch16_224``). It follows memory traffic, and so the speed on
many accelerators, better than MACs do (Radosavovic et al., Designing Network Design Spaces,
CVPR 2020).
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
