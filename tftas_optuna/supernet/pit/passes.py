"""The forward and backward pass through absolute slices of a PiT supernet.

The backward pass is written by hand because only the outputs of the linear layers need gradients:
weights get none, and every layer is yielded as soon as its gradient is computed. Candidates with
heads of one width run together in every stage where they have the same number of heads.
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
    """The absolute weights of the supernet, arranged for the pass.

    Attributes:
        pools: The pooling layers before each stage but the first.
        blocks: The blocks of each stage.
        norm: Weight and bias of the final normalisation.
        head: The classifier.
    """

    pools: list[PoolWeights]
    blocks: list[list[BlockWeights]]
    norm: tuple[Tensor, Tensor]
    head: CentredLinear


class PiTPass:
    """A pass of several candidates with heads of one width.

    Args:
        archs: The candidates.
        weights: Weights of the supernet.
        patches: The patches of the image.
    """

    def __init__(
        self, archs: Sequence[PiTArchitecture], weights: PiTWeights, patches: Patches
    ) -> None:
        self._archs = archs
        self._weights = weights
        self._patches = patches

    def run(self, tokens: Tensor) -> Iterator[LinearTrace]:
        """Run the candidates and yield the layers of each from the last to the first.

        Args:
            tokens: Embedded tokens at full width, shape (tokens, width).
        """
        state = [tokens[:, : arch.widths[0]] for arch in self._archs]
        steps: list[tuple[list[int], Step]] = []
        for group, step in self._steps():
            _replace(state, group, step.forward(_stack(state, group)))
            steps.append((group, step))
        state = [torch.ones_like(logits) for logits in state]
        while steps:
            group, step = steps.pop()
            grad = yield from step.backward(_stack(state, group))
            _replace(state, group, grad)

    def _steps(self) -> Iterator[tuple[list[int], Step]]:
        """Yield the steps of the network, each with the candidates that run it together."""
        archs, weights, patches = self._archs, self._weights, self._patches
        for stage, blocks in enumerate(weights.blocks):
            if stage > 0:
                pool = weights.pools[stage - 1]
                for group in self._by_heads(stage - 1, stage):
                    width = archs[group[0]].widths[stage]
                    yield group, Pooling(stage, pool, patches, width, self._indices(group))
            keys = patches.key_weights(stage)
            for group in self._by_heads(stage):
                # Deepest first; among equal depths, candidates with equal MLPs are adjacent.
                group.sort(key=lambda i: (-archs[i].depth[stage], archs[i].mlp_ratio))
                depths = [archs[i].depth[stage] for i in group]
                hidden = [archs[i].hidden_dims[stage] for i in group]
                members, head_dim = self._indices(group), archs[0].base_dim
                yield group, Blocks(stage, blocks, depths, head_dim, hidden, keys, members)
        for group in self._by_heads(len(weights.blocks) - 1):
            yield group, Classifier(weights.norm, weights.head, self._indices(group))

    def _indices(self, group: list[int]) -> Tensor:
        return torch.tensor(group, device=self._weights.norm[0].device)

    def _by_heads(self, *stages: int) -> list[list[int]]:
        """Group the candidates by their numbers of heads in the given stages."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, arch in enumerate(self._archs):
            groups.setdefault(tuple(arch.num_heads[stage] for stage in stages), []).append(i)
        return list(groups.values())


def _stack(state: list[Tensor], group: list[int]) -> Tensor:
    return torch.stack([state[i] for i in group])


def _replace(state: list[Tensor], group: list[int], values: Tensor) -> None:
    for i, value in zip(group, values, strict=True):
        state[i] = value
