"""The processes of a training: one, or as many as ``torchrun`` started."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import torch
from timm.utils.distributed import init_distributed_device_so, is_distributed_env
from torch import distributed

from tftas_optuna.devices import resolve_device

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclasses.dataclass(frozen=True)
class World:
    """This process among all processes of a training.

    Attributes:
        device: Where it computes.
        rank: Its number; 0 is the primary one, which writes the files.
        size: Number of processes.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def primary(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def distributed(self) -> bool:
        """Whether there are several processes."""
        return self.size > 1

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.distributed:
            distributed.barrier()

    def mean(self, value: torch.Tensor) -> float:
        """Average a number over all processes."""
        if self.distributed:
            value = value.clone()
            distributed.all_reduce(value)
        return float(value) / self.size

    def of_primary(self, value: int) -> int:
        """Return the number that the primary process holds, such as what its clock decides."""
        if not self.distributed:
            return value
        held = torch.tensor([value], device=self.device)
        distributed.broadcast(held, src=0)
        return int(held)

    def agree(self, value: int) -> bool:
        """Return whether all processes hold the same number."""
        if not self.distributed:
            return True
        extremes = torch.tensor([value, -value], device=self.device)
        distributed.all_reduce(extremes, op=distributed.ReduceOp.MAX)
        return bool(extremes[0] == -extremes[1])


@contextlib.contextmanager
def join_world(device: str = "auto") -> Iterator[World]:
    """Join the processes that ``torchrun`` (or SLURM) started, if it did.

    Args:
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ...; with several
            processes each takes the CUDA device of its local rank. Processes communicate
            through NCCL on CUDA, and through gloo on a CPU.

    Raises:
        TftasError: The device does not exist.
    """
    resolved = resolve_device(device)
    if not is_distributed_env():
        yield World(resolved)
        return
    joined = init_distributed_device_so(device=resolved.type)
    yield World(torch.device(joined["device"]), joined["global_rank"], joined["world_size"])
    # Not after an error: the other processes would fail because of the lost connection, and this
    # one would be killed before it has printed its error.
    distributed.destroy_process_group()
