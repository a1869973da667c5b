"""What happens in the passes of a network, and what is kept of it."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from tftas_optuna.passes.layers import LayerScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tftas_optuna.supernet.trace import Role

Event = Literal[
    "activations",
    "features",
    "outputs",
    "blocks",
    "weight_gradients",
    "activation_gradients",
    "curvatures",
    "image_gradients",
    "gradients_by_image",
]


@dataclasses.dataclass(frozen=True)
class Needs:
    """What an indicator needs of a network's passes. What nobody needs is not computed.

    Attributes:
        events: Methods of :class:`Tally` that want to be called.
        batches: Batches of images; each has ``n_images`` of its own.
        double: Whether float32 has too few digits for it: its passes are then made in float64,
            whatever those of others are.
    """

    events: frozenset[Event] = frozenset()
    batches: int = 1
    double: bool = False

    @classmethod
    def of(cls, *events: Event, batches: int = 1, double: bool = False) -> Needs:
        """List the events."""
        return cls(frozenset(events), batches, double)


class Weight(NamedTuple):
    """One weight matrix that counts.

    Attributes:
        name: Name of its layer in the stand-alone network.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        shape: Its outputs and inputs.
        block: Name of the block that it lies in; empty outside of all blocks.
    """

    name: str
    role: Role
    shape: tuple[int, int]
    block: str


class Network(NamedTuple):
    """What a tally knows of a network before its passes.

    Attributes:
        weights: The matrices that count, in the order of the modules; see
            :mod:`tftas_optuna.passes.structure`.
        n_images: Images of one batch.
    """

    weights: Sequence[Weight]
    n_images: int


class Tally:
    """What an indicator keeps of one network's passes; the base class ignores all of them.

    Tensors belong to the pass: a tally reads them and keeps numbers. Each method is called in
    the order of the network.
    """

    def activation(self, before: Tensor) -> None:
        """Take the inputs of a block's activation function, shape (n, tokens, units)."""

    def feature(self, tokens: Tensor) -> None:
        """Take the residual stream behind an attention or an MLP, shape (n * tokens, width)."""

    def output(self, weight: Weight, outputs: Tensor) -> None:
        """Take a linear layer's outputs of the first image, shape (tokens, out).

        Of layers that are stacked into one matrix it is called once for each number of tokens.
        """

    def block(self, grad_in: Tensor, grad_out: Tensor) -> None:
        """Take random signs at the end of a block, and the gradient that they make before it.

        Both have the shape (n * tokens, width).
        """

    def weight_gradient(self, weight: Weight, values: Tensor, gradient: Tensor) -> None:
        """Take a weight matrix and the gradient of the mean cross-entropy of one batch."""

    def activation_gradient(self, after: Tensor, gradient: Tensor) -> None:
        """Take an activation's outputs and their gradients of the mean cross-entropy.

        Both have the shape (n, tokens, units).
        """

    def curvature(self, weight: Weight, values: Tensor, product: Tensor) -> None:
        """Take a weight matrix, and the Hessian of the mean cross-entropy times its gradient."""

    def image_gradients(self, gradients: Tensor) -> None:
        """Take the gradients of the summed logits by the images, shape (n, inputs)."""

    def gradients_by_image(self, gradients: Sequence[Tensor]) -> None:
        """Take the gradients of one image's summed logits by all weights; once for each image."""

    @abstractmethod
    def value(self) -> float:
        """Return the value of the indicator, when all passes are done."""


class LayerTally(Tally):
    """A tally that is a sum over layers, and can tell what each of them adds."""

    def __init__(self) -> None:
        self._rows: list[tuple[Weight, Tensor | float]] = []

    def add(self, weight: Weight, term: Tensor | float) -> None:
        """Add the term of a layer, a number or a tensor of one."""
        self._rows.append((weight, term))

    @property
    def rows(self) -> list[LayerScore]:
        """What each layer adds, in forward order where passes went forward."""
        return [
            LayerScore(weight.name, weight.role, weight.shape, None, None, float(term))
            for weight, term in self._rows
        ]

    def value(self) -> float:
        """Add the terms up."""
        return math.fsum(float(term) for _, term in self._rows)


class Watcher(Protocol):
    """Whoever looks at the passes of a network: it says what it needs, and keeps a tally."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    @property
    def needs(self) -> Needs:
        """What it needs of the passes."""

    def tally(self, network: Network) -> Tally:
        """Begin with a network."""
