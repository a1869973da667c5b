"""What every supernet offers, and how its weights are drawn."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from tftas_optuna.supernet.trace import LinearTrace


class Supernet(Protocol):
    """One set of weights that every candidate of a study is cut from."""

    state_dict: dict[str, Tensor]
    device: torch.device
    dtype: torch.dtype

    def check(self, arch: Any) -> None:
        """Make sure that a candidate can be cut from this supernet, or raise TftasError."""

    def subnet(self, arch: Any) -> nn.Module:
        """Build the stand-alone network that holds a candidate's slices, signs kept."""

    @staticmethod
    def groups(archs: Sequence[Any]) -> list[list[int]]:
        """Sort candidates, by index, into lists that run together."""

    def traces(self, archs: Sequence[Any], *, fidelity: str = "exact") -> Iterable[LinearTrace]:
        """Run one of the groups forward and backward; give its layers, the last one first."""

    def pass_bytes(self, fidelity: str) -> int:
        """Estimate the memory that one candidate takes in :meth:`traces`, in bytes."""


def generator_of(seed: int, name: str) -> torch.Generator:
    """Give a tensor its own generator, so that no tensor's draw depends on another's shape."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
