"""The forward and backward pass through absolute slices of a PiT supernet.

The backward pass is written by hand because only the outputs of the linear layers need gradients:
weights get none, and every layer is yielded as soon as its gradient is computed. Candidates with
heads of one width run together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from tftas_optuna.supernet.pit.stages import Classifier, Order, Pooling, Stage
from tftas_optuna.supernet.stacks import LAYERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from tftas_optuna.architecture import PiTArchitecture
    from tftas_optuna.supernet.linear import LinearStack
    from tftas_optuna.supernet.pit.batch import Frame, StageBatch
    from tftas_optuna.supernet.pit.patches import Patches
    from tftas_optuna.supernet.pit.stages import PoolWeights, StageWeights, Step
    from tftas_optuna.supernet.trace import LinearTrace


class PiTWeights(NamedTuple):
    """The absolute weights of the supernet, arranged for the pass.

    Attributes:
        pools: The pooling layers before each stage but the first.
        stages: The blocks of each stage.
        norm: Weight and bias of the final normalisation.
        head: The classifier.
    """

    pools: list[PoolWeights]
    stages: list[StageWeights]
    norm: tuple[Tensor, Tensor]
    head: LinearStack


class PiTPass:
    """A pass of several candidates with heads of one width.

    Args:
        weights: Weights of the supernet.
        patches: The patches of the image.
        frame: The sizes of the tensors.
        batches: What each candidate uses of them, stage by stage.
    """

    def __init__(
        self, weights: PiTWeights, patches: Patches, frame: Frame, batches: Sequence[StageBatch]
    ) -> None:
        self._weights = weights
        self._patches = patches
        self._frame = frame
        self._batches = batches

    def run(self, tokens: Tensor) -> Iterator[LinearTrace]:
        """Run the candidates and yield the layers of each from the last to the first.

        Args:
            tokens: Embedded tokens at full width, shape (tokens, width).

        Yields:
            Layers without the shapes of the candidates' weights.
        """
        x = tokens[:, : self._batches[0].width].expand(self._frame.n_candidates, -1, -1)
        steps = list(self._steps())
        for step in steps:
            x = step.forward(x)
        grad = torch.ones_like(x)
        while steps:
            grad = yield from steps.pop().backward(grad)

    def _steps(self) -> Iterator[Step]:
        """Yield the steps of the network."""
        weights, patches = self._weights, self._patches
        place = 0
        for i, (blocks, batch) in enumerate(zip(weights.stages, self._batches, strict=True)):
            if i > 0:
                before = self._batches[i - 1]
                yield Pooling(i, weights.pools[i - 1], patches, before, batch, place)
                place += 1
            if batch.moves is not None:
                yield Order(batch.moves)
            keys, stacked = patches.key_weights(i), self._frame.stacked
            yield Stage(i, blocks, batch, keys, place, stacked=stacked)
            place += len(LAYERS) * len(batch.frame.active)
        plain = weights.stages[0].plain_norms
        last = self._batches[-1]
        yield Classifier(weights.head, weights.norm, last, place, plain_norms=plain)


def shapes_of(
    archs: Sequence[PiTArchitecture], frame: Frame, trace: LinearTrace
) -> list[list[tuple[int, int]]]:
    """Return the shapes of the candidates' weights in the layers of a trace, (0, 0) for none."""
    out = trace.delta.shape[3]
    if trace.role == "head":
        order, stage = frame.stages[-1].order, len(frame.stages) - 1
    else:
        stage = int(trace.names[0].split(".")[1])
        order = frame.stages[stage - 1 if ".pool." in trace.names[0] else stage].order
    members = [archs[i] for i in order or range(len(archs))][: trace.x.shape[1]]
    sizes = [(arch.widths[stage], arch.hidden_dims[stage]) for arch in members]
    layer = trace.names[0].split(".")[-1]
    if layer == "head":
        return [[(out, width) for width, _ in sizes]]
    if ".pool." in trace.names[0]:
        return [[(arch.widths[stage], arch.widths[stage - 1]) for arch in members]]
    own = {
        "qkv": [(3 * width, width) for width, _ in sizes],
        "proj": [(width, width) for width, _ in sizes],
        "fc1": [(hidden, width) for width, hidden in sizes],
        "fc2": sizes,
    }[layer]
    depths = [arch.depth[stage] for arch in members]
    rows = []
    for name in trace.names:
        block = int(name.split(".")[3])
        rows.append([s if block < d else (0, 0) for s, d in zip(own, depths, strict=True)])
    return rows
