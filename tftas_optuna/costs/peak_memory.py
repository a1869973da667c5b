"""Peak memory of inference, in bytes.

The bytes of all parameters and buffers in float32, plus the peak bytes of all other tensors that
are alive at one time during an eager forward pass without gradients, including the batch of
images. A tensor is alive from the operator that creates it until Python drops the last reference
to it. Attention is computed without fused kernels, so its matrix counts; temporary memory inside
kernels and memory that an allocator keeps in reserve do not.
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


def peak_memory(arch: Architecture, target: Target) -> int:
    """Return the peak bytes of a forward pass of ``target.batch_size`` images."""
    target = dataclasses.replace(target, device="cpu", threads=None)
    weights = sum_over_blocks(arch, lambda arch: trace_forward(arch, target).weight_bytes)
    # After the first block one more tensor is alive: the input tokens of that block.
    parts = [
        arch.with_blocks(kind, 2 if i else 1) for i, kind in enumerate(arch.block_kinds())
    ] or [arch]
    return weights + max(trace_forward(part, target).peak_bytes for part in parts)


METRIC = counted("peak_memory", peak_memory, unit="bytes", grows=True, deployed=True)
