"""The events of the passes of a network, and the tallies that indicators keep of them."""

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
    """The passes that an indicator needs; nothing else is computed.

    Attributes:
        events: The events, each of which calls a method of :class:`Tally`.
        batches: Number of batches, each with ``n_images`` images of its own.
        double: Whether the passes must run in float64, because float32 has too few digits.
    """

    events: frozenset[Event] = frozenset()
    batches: int = 1
    double: bool = False

    @classmethod
    def of(cls, *events: Event, batches: int = 1, double: bool = False) -> Needs:
        """Make the needs from a list of events."""
        return cls(frozenset(events), batches, double)


class Weight(NamedTuple):
    """One weight matrix that counts.

    Attributes:
        name: Name of its layer in the stand-alone network.
        role: ``"attention"``, ``"mlp"`` or ``"head"``.
        shape: Number of outputs and of inputs.
        block: Name of the block that it is in; empty if it is in none.
    """

    name: str
    role: Role
    shape: tuple[int, int]
    block: str


class Network(NamedTuple):
    """The description of a network that a tally starts from.

    Attributes:
        weights: The matrices that count, in the order of the modules; see
            :mod:`tftas_optuna.passes.structure`.
        n_images: Images in one batch.
    """

    weights: Sequence[Weight]
    n_images: int


class Tally:
    """What an indicator keeps of the passes of one network; by default nothing.

    A subclass overrides the methods of its events, which are called in the order of the network.
    The tensors belong to the pass and must not be changed.
    """

    def activation(self, before: Tensor) -> None:
        """Receive the inputs of a block's activation function, shape (n, tokens, units)."""

    def feature(self, tokens: Tensor) -> None:
        """Receive the residual stream behind an attention or an MLP, (n * tokens, width)."""

    def output(self, weight: Weight, outputs: Tensor) -> None:
        """Receive the outputs of a linear layer for the first image, shape (tokens, out).

        If stacked layers differ in their number of tokens, it is called once for each number.
        """

    def block(self, grad_in: Tensor, grad_out: Tensor) -> None:
        """Receive the gradients at the input and the output of a block, (n * tokens, width).

        The gradient at the output consists of random signs.
        """

    def weight_gradient(self, weight: Weight, values: Tensor, gradient: Tensor) -> None:
        """Receive a weight matrix and its gradient of the mean cross-entropy of one batch."""

    def activation_gradient(self, after: Tensor, gradient: Tensor) -> None:
        """Receive the outputs of an activation and their gradients of the mean cross-entropy.

        Both have the shape (n, tokens, units).
        """

    def curvature(self, weight: Weight, values: Tensor, product: Tensor) -> None:
        """Receive a weight matrix and the Hessian of the mean cross-entropy times the gradient."""

    def image_gradients(self, gradients: Tensor) -> None:
        """Receive the gradients of the summed logits by the images, shape (n, inputs)."""

    def gradients_by_image(self, gradients: Tensor) -> None:
        """Receive the gradients of each image's summed logits by one weight, (n, entries).

        It is called once for each weight that counts, in the order of the network.
        """

    @abstractmethod
    def value(self) -> float:
        """Return the value of the indicator after all passes."""


class LayerTally(Tally):
    """A tally whose value is a sum over layers."""

    def __init__(self) -> None:
        self._rows: list[tuple[Weight, Tensor | float]] = []

    def add(self, weight: Weight, term: Tensor | float) -> None:
        """Add the term of a layer: a number or a tensor with one element."""
        self._rows.append((weight, term))

    @property
    def rows(self) -> list[LayerScore]:
        """The contribution of each layer, in the order of the calls to :meth:`add`."""
        return [
            LayerScore(weight.name, weight.role, weight.shape, None, None, float(term))
            for weight, term in self._rows
        ]

    def value(self) -> float:
        """Return the sum of the terms."""
        return math.fsum(float(term) for _, term in self._rows)


class Watcher(Protocol):
    """Anything that needs passes and keeps a tally of them, such as a network indicator."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    @property
    def needs(self) -> Needs:
        """The passes that it needs."""

    def tally(self, network: Network) -> Tally:
        """Return a new tally for a network."""
