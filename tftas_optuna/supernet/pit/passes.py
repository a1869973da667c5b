"""One forward and backward pass through absolute slices of a PiT supernet.

Written out by hand because only the outputs of the linear layers need gradients: no weight ever
gets one, and every layer is handed on as soon as its gradient is known. Candidates of one head
width run together wherever they have equally many heads, stage by stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from tftas_optuna.supernet.pit.stages import Blocks, Classifier, Pooling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from tftas_optuna.architecture import PiTArchitecture
    from tftas_optuna.supernet.linear import CentredLinear
    from tftas_optuna.supernet.pit.patches import Patches
    from tftas_optuna.supernet.pit.stages import BlockWeights, PoolWeights, Step
    from tftas_optuna.supernet.trace import LinearTrace


class PiTWeights(NamedTuple):
    """Absolute weights of the supernet, arranged for the pass.

    Attributes:
        pools: Those that lead into each stage but the first.
        blocks: The blocks of each stage.
        norm: Weight and bias of the final normalisation.
        head: The classifier.
    """

    pools: list[PoolWeights]
    blocks: list[list[BlockWeights]]
    norm: tuple[Tensor, Tensor]
    head: CentredLinear


class PiTPass:
    """Runs candidates of one head width.

    Args:
        archs: The candidates.
        weights: The supernet's.
        patches: The patches.
    """

    def __init__(
        self, archs: Sequence[PiTArchitecture], weights: PiTWeights, patches: Patches
    ) -> None:
        self._archs = archs
        self._weights = weights
        self._patches = patches

    def run(self, tokens: Tensor) -> Iterator[LinearTrace]:
        """Run the candidates; yield the layers of each from the last to the first.

        Args:
            tokens: Embedded tokens at full width, shape (tokens, width).
        """
        state = [tokens[:, : arch.widths[0]] for arch in self._archs]
        done: list[tuple[list[int], Step]] = []
        for group, step in self._steps():
            _replace(state, group, step.forward(_together(state, group)))
            done.append((group, step))
        state = [torch.ones_like(logits) for logits in state]
        while done:
            group, step = done.pop()
            grad = yield from step.backward(_together(state, group))
            _replace(state, group, grad)

    def _steps(self) -> Iterator[tuple[list[int], Step]]:
        """List the steps of the network, each with the candidates that take it together."""
        archs, weights, patches = self._archs, self._weights, self._patches
        for stage, blocks in enumerate(weights.blocks):
            if stage > 0:
                pool = weights.pools[stage - 1]
                for group in self._alike(stage - 1, stage):
                    width = archs[group[0]].widths[stage]
                    yield group, Pooling(stage, pool, patches, width, self._places(group))
            keys = patches.key_weights(stage)
            for group in self._alike(stage):
                # The deepest first; of those, candidates with equal MLPs side by side.
                group.sort(key=lambda i: (-archs[i].depth[stage], archs[i].mlp_ratio))
                depths = [archs[i].depth[stage] for i in group]
                hidden = [archs[i].hidden_dims[stage] for i in group]
                places, head_dim = self._places(group), archs[0].base_dim
                yield group, Blocks(stage, blocks, depths, head_dim, hidden, keys, places)
        for group in self._alike(len(weights.blocks) - 1):
            yield group, Classifier(weights.norm, weights.head, self._places(group))

    def _places(self, group: list[int]) -> Tensor:
        return torch.tensor(group, device=self._weights.norm[0].device)

    def _alike(self, *stages: int) -> list[list[int]]:
        """Sort the candidates by their heads in some stages."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, arch in enumerate(self._archs):
            groups.setdefault(tuple(arch.num_heads[stage] for stage in stages), []).append(i)
        return list(groups.values())


def _together(state: list[Tensor], group: list[int]) -> Tensor:
    return torch.stack([state[i] for i in group])


def _replace(state: list[Tensor], group: list[int], found: Tensor) -> None:
    for i, each in zip(group, found, strict=True):
        state[i] = each
