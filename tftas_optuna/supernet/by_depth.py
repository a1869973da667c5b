"""The blocks that candidates of each depth take, where these are not the first ones."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.supernet._base import Supernet
    from tftas_optuna.supernet.trace import LinearTrace


class BlocksByDepth:
    """Runs candidates of each depth as those of a supernet of the blocks that they take.

    Args:
        supernet: The supernet; ``slicing.blocks`` says which blocks are taken.
    """

    def __init__(self, supernet: Supernet[Any]) -> None:
        self._supernet = supernet
        self._supernets: dict[Architecture, Supernet[Any]] = {}

    def taken(self, arch: Architecture, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors of the supernet, with the blocks that a candidate takes as the first."""
        supernet, taken = self._supernet, dict(source)
        every = supernet.depths(supernet.largest)
        for stage, depth in supernet.depths(arch).items():
            for i, block in enumerate(supernet.slicing.taken(depth, every[stage])):
                prefix = f"{stage}.{block}."
                for name in source:
                    if name.startswith(prefix):
                        taken[f"{stage}.{i}.{name.removeprefix(prefix)}"] = source[name]
        return taken

    def traces(self, archs: Sequence[Architecture], fidelity: str) -> Iterable[LinearTrace]:
        """Run candidates, those of one depth together; see :meth:`Supernet.traces`."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, arch in enumerate(archs):
            groups.setdefault(tuple(self._supernet.depths(arch).values()), []).append(i)
        runs = []
        for depths, members in groups.items():
            own = [archs[i] for i in members]
            runs.append((depths, members, self._as_deep_as(own[0]).traces(own, fidelity)))
        return (
            trace._replace(members=self._members(members, trace), depths=depths)
            for depths, members, run in runs
            for trace in run
        )

    def _members(self, members: list[int], trace: LinearTrace) -> Tensor:
        own = torch.tensor(members, device=self._supernet.device)
        return own[: trace.x.shape[1]] if trace.members is None else own[trace.members]

    def _as_deep_as(self, arch: Architecture) -> Supernet[Any]:
        """Return the supernet of the blocks that candidates of this depth take."""
        supernet = self._supernet
        largest = supernet.shallower(arch)
        if largest not in self._supernets:
            self._supernets[largest] = type(supernet)(
                largest,
                img_size=supernet.img_size,
                num_classes=supernet.num_classes,
                in_chans=supernet.in_chans,
                state_dict=self.taken(arch, supernet.state_dict),
                slicing=dataclasses.replace(supernet.slicing, blocks="first"),
                device=supernet.device,
                dtype=supernet.dtype,
            )
        return self._supernets[largest]
