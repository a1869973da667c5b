"""Peak memory of inference, in bytes.

The bytes of all parameters and buffers in float32, plus the most bytes of all other tensors that
are alive at one time during an eager forward pass without gradients, the batch of images among
them. A tensor lives from the operator that makes it to the moment when Python drops its last
reference. Attention counts as written out, with its matrix in memory; what kernels use inside
and what an allocator keeps in reserve do not count.
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
    from tftas_optuna.costs._trace import Trace
    from tftas_optuna.metrics import Target


def peak_memory(arch: Architecture, target: Target) -> int:
    """Count the bytes of a forward pass of ``target.batch_size`` images."""
    target = dataclasses.replace(target, device="cpu", threads=None)
    blocks = get_family(arch.family).blocks
    if blocks is None:
        whole = trace_forward(arch, target)
        return whole.weight_bytes + whole.peak_bytes

    def of(kind: Kind, depth: int) -> Trace:
        return trace_forward(blocks.uniform(arch, kind, depth), target)

    weights = peak = 0
    for i, kind in enumerate(blocks.kinds(arch)):
        # Behind the first block one more tensor is alive: the tokens that the first one got.
        weights += (
            of(kind, 2).weight_bytes - of(kind, 1).weight_bytes if i else of(kind, 1).weight_bytes
        )
        peak = max(peak, of(kind, 2).peak_bytes if i else of(kind, 1).peak_bytes)
    return weights + peak


METRIC = counted("peak_memory", peak_memory, unit="bytes", grows=True, deployed=True)
