"""What can be told of parameters without trying them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Known(NamedTuple):
    """What is known of one set of parameters before it is tried.

    Attributes:
        features: Numbers that a regression explains values by; as many for all sets of
            parameters. Sets with the same features count as the same candidate.
        objectives: Objectives that need no trial, by their position.
        constraints: Constraints that need no trial, by name; zero or less is feasible.
    """

    features: Sequence[float]
    objectives: Mapping[int, float] = {}
    constraints: Mapping[str, float] = {}


class Knowledge(Protocol):
    """Tells what is known of parameters: any function of them that does."""

    def __call__(self, params: Mapping[str, Any], /) -> Known:
        """Tell what is known of one set of parameters."""


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
    """Knowledge that can also be asked of many candidates at once, which is far faster."""

    def many(self, choices: Mapping[str, NDArray[np.int64]]) -> KnownTable:
        """Tell what is known of candidates whose parameters are all categorical.

        Args:
            choices: For each parameter, which of its choices every candidate has, counted from 0;
                shape (candidates,). Parameters of a single choice may be left out.
        """
