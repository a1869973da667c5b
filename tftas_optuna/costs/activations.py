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

from tftas_optuna.costs._trace import trace_forward
from tftas_optuna.families import get_family
from tftas_optuna.metrics import counted

if TYPE_CHECKING:
    from tftas_optuna.architecture import Architecture
    from tftas_optuna.costs._blocks import Kind
    from tftas_optuna.metrics import Target


def activations(arch: Architecture, target: Target) -> int:
    """Count the activations of one image."""
    target = dataclasses.replace(target, batch_size=1, device="cpu", threads=None)
    blocks = get_family(arch.family).blocks
    if blocks is None:
        return trace_forward(arch, target).activations

    def of(kind: Kind, depth: int) -> int:
        return trace_forward(blocks.uniform(arch, kind, depth), target).activations

    total = 0
    for i, kind in enumerate(blocks.kinds(arch)):
        total += of(kind, 2) - of(kind, 1) if i else of(kind, 1)
    return total


METRIC = counted("activations", activations, grows=True)
