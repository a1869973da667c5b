"""Features and tabulated costs of many candidates of an AutoFormer space at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tftas_optuna.spaces._autoformer_fields import OF_BLOCK, slot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces._base import Choices, CostOf
    from tftas_optuna.spaces.autoformer import AutoFormerSpace

# Random candidates for the test whether a cost adds up over blocks.
_CHECKED = 16


class Shapes(NamedTuple):
    """The dimensions of many candidates, as indices of the choices of a space.

    Attributes:
        width: Index of the width, shape (candidates,).
        depth: Index of the depth, shape (candidates,).
        heads: Index of the heads of each block slot, shape (candidates, slots).
        ratios: Index of the MLP ratio of each block slot, shape (candidates, slots).
        active: Whether a slot is below the depth, shape (candidates, slots).
    """

    width: NDArray[np.int64]
    depth: NDArray[np.int64]
    heads: NDArray[np.int64]
    ratios: NDArray[np.int64]
    active: NDArray[np.bool_]

    @classmethod
    def read(cls, space: AutoFormerSpace, choices: Choices) -> Shapes:
        """Build the shapes from indices of parameters; see :meth:`SearchSpace.features_of`."""
        zeros = np.zeros(len(next(iter(choices.values()))), dtype=np.int64)
        n_slots = space.depth[-1]
        labels = np.stack([choices.get(slot(i), zeros) for i in range(n_slots)], axis=1)
        heads_and_ratios = []
        for name in OF_BLOCK:
            if name in space.shared:
                shared = choices.get(name, zeros)[:, None]
                heads_and_ratios.append(np.broadcast_to(shared, labels.shape))
                continue
            values, column = getattr(space, name), space.of_block.index(name)
            by_label = [values.index(block[column]) for block in space.blocks.values()]
            heads_and_ratios.append(np.array(by_label)[labels])
        width, depth = choices.get("embed_dim", zeros), choices.get("depth", zeros)
        active = np.arange(n_slots) < np.array(space.depth)[depth][:, None]
        heads, ratios = heads_and_ratios
        return cls(width, depth, heads, ratios, active)

    def features(self, space: AutoFormerSpace) -> NDArray[np.float64]:
        """Return the features of the candidates, shape (candidates, features)."""
        return np.concatenate(
            (
                np.where(self.active, _scaled_indices(space.num_heads)[self.heads], 0.0),
                np.where(self.active, _scaled_indices(space.mlp_ratio)[self.ratios], 0.0),
                self.depth[:, None] >= np.arange(1, len(space.depth)),
                self.width[:, None] >= np.arange(1, len(space.embed_dim)),
            ),
            axis=1,
        )


def table_of_blocks(
    space: AutoFormerSpace, cost: Callable[[Architecture], float]
) -> CostOf | None:
    """Tabulate a cost that is a sum over blocks and depends only on their kinds.

    Returns:
        A function that looks up many candidates at once; None if the cost does not add up.
    """
    shape = len(space.embed_dim), len(space.num_heads), len(space.mlp_ratio)

    def uniform(depth: int) -> NDArray[np.float64]:
        archs = (space.supernet.with_blocks(kind, depth) for kind in space.block_kinds())
        return np.array([float(cost(arch)) for arch in archs]).reshape(shape)

    depth_1, depth_2 = uniform(1), uniform(2)
    block, around = depth_2 - depth_1, (2 * depth_1 - depth_2)[:, 0, 0]

    def table(choices: Choices) -> NDArray[np.float64]:
        shapes = Shapes.read(space, choices)
        blocks = block[shapes.width[:, None], shapes.heads, shapes.ratios]
        total: NDArray[np.float64] = (blocks * shapes.active).sum(axis=1) + around[shapes.width]
        return total

    rng = np.random.default_rng(0)
    sample = {
        name: rng.integers(len(distribution.choices), size=_CHECKED)
        for name, distribution in space.distributions().items()
    }
    costs = [cost(arch) for arch in space.chosen(sample)]
    return table if np.allclose(table(sample), costs, rtol=1e-12, atol=0.0) else None


def _scaled_indices(choices: Sequence[float]) -> NDArray[np.float64]:
    """Return the indices of the choices, scaled to the range from -1/2 to 1/2."""
    return np.arange(len(choices)) / max(len(choices) - 1, 1) - 0.5
