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
        blocks: Index of the heads and the MLP ratio of each block slot among all combinations,
            shape (candidates, slots); their number for a slot beyond the depth.
    """

    width: NDArray[np.int64]
    depth: NDArray[np.int64]
    blocks: NDArray[np.int64]

    @classmethod
    def read(cls, space: AutoFormerSpace, choices: Choices) -> Shapes:
        """Build the shapes from indices of parameters; see :meth:`SearchSpace.features_of`."""
        zeros = np.zeros(len(next(iter(choices.values()))), dtype=np.int64)
        n_slots = space.depth[-1]
        labels = np.stack([choices.get(slot(i), zeros) for i in range(n_slots)], axis=1)
        by_label, common = np.zeros(len(space.blocks), dtype=np.int64), zeros
        for name, step in zip(OF_BLOCK, (len(space.mlp_ratio), 1), strict=True):
            if name in space.shared:
                common = common + step * choices.get(name, zeros)
            elif name in space.of_block:
                values, column = getattr(space, name), space.of_block.index(name)
                by_label += [step * values.index(block[column]) for block in space.blocks.values()]
        width, depth = choices.get("embed_dim", zeros), choices.get("depth", zeros)
        is_active = np.arange(n_slots) < np.array(space.depth)[depth][:, None]
        n_kinds = len(_heads(space)) * len(space.mlp_ratio)
        return cls(width, depth, np.where(is_active, by_label[labels] + common[:, None], n_kinds))

    def features(self, space: AutoFormerSpace) -> NDArray[np.float64]:
        """Return the features of the candidates, shape (candidates, features)."""
        heads, ratios = map(_scaled_indices, (_heads(space), space.mlp_ratio))
        return np.concatenate(
            (
                np.append(np.repeat(heads, len(ratios)), 0.0)[self.blocks],
                np.append(np.tile(ratios, len(heads)), 0.0)[self.blocks],
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

    def uniform(depth: int) -> NDArray[np.float64]:
        archs = (space.supernet.with_blocks(kind, depth) for kind in space.block_kinds())
        return np.array([float(cost(arch)) for arch in archs]).reshape(len(space.embed_dim), -1)

    depth_1, depth_2 = uniform(1), uniform(2)
    around = (2 * depth_1 - depth_2)[:, 0]
    # Slots beyond the depth add nothing.
    block = np.pad(depth_2 - depth_1, ((0, 0), (0, 1)))

    def table(choices: Choices) -> NDArray[np.float64]:
        shapes = Shapes.read(space, choices)
        places = shapes.width[:, None] * block.shape[1] + shapes.blocks
        total: NDArray[np.float64] = block.ravel()[places].sum(axis=1) + around[shapes.width]
        return total

    rng = np.random.default_rng(0)
    sample = {
        name: rng.integers(len(distribution.choices), size=_CHECKED)
        for name, distribution in space.distributions().items()
    }
    costs = [cost(arch) for arch in space.chosen(sample)]
    return table if np.allclose(table(sample), costs, rtol=1e-12, atol=0.0) else None


def _heads(space: AutoFormerSpace) -> tuple[int, ...]:
    """Return the choices of the heads of a block; where they follow the width it has none."""
    return (0,) if space.num_heads is None else space.num_heads


def _scaled_indices(choices: Sequence[float]) -> NDArray[np.float64]:
    """Return the indices of the choices, scaled to the range from -1/2 to 1/2."""
    return np.arange(len(choices)) / max(len(choices) - 1, 1) - 0.5
