"""What a user knows of parameters before they are tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Known(NamedTuple):
    """What is known of one set of parameters before it is tried.

    Attributes:
        features: Numbers from which a regression predicts values; equally many for all sets of
            parameters. Sets with equal features count as the same candidate.
        objectives: Objectives that can be computed without a trial, by their position.
        constraints: Constraints that can be computed without one, by name; zero or less is
            feasible.
    """

    features: Sequence[float]
    objectives: Mapping[int, float] = {}
    constraints: Mapping[str, float] = {}


class Knowledge(Protocol):
    """Any function from a set of parameters to what is known of it."""

    def __call__(self, params: Mapping[str, Any], /) -> Known:
        """Return what is known of one set of parameters."""


class KnownTable(NamedTuple):
    """What is known of many sets of categorical parameters; see :class:`Known`.

    Attributes:
        features: Shape (candidates, features).
        objectives: By position, shape (candidates,).
        constraints: By name, shape (candidates,).
    """

    features: NDArray[np.float64]
    objectives: Mapping[int, NDArray[np.float64]]
    constraints: Mapping[str, NDArray[np.float64]]


@runtime_checkable
class ManyKnown(Knowledge, Protocol):
    """Knowledge that can also be asked about many candidates at once, which is far faster."""

    def many(self, choices: Mapping[str, NDArray[np.int64]]) -> KnownTable:
        """Return what is known of candidates whose parameters are all categorical.

        Args:
            choices: For each parameter, the index of every candidate's choice, shape
                (candidates,). Parameters with a single choice may be left out.
        """
