"""Knowledge about parameters before they are tried: features, objectives, constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Known(NamedTuple):
    """Knowledge about one set of parameters before it is tried.

    Attributes:
        features: Inputs of the regressions that predict objectives, the same number for all sets
            of parameters. Sets with equal features count as the same candidate.
        objectives: Objectives that can be computed without a trial, by position.
        constraints: Constraints that can be computed without a trial, by name; zero or less is
            feasible.
    """

    features: Sequence[float]
    objectives: Mapping[int, float] = {}
    constraints: Mapping[str, float] = {}


class Knowledge(Protocol):
    """A function that returns the knowledge about a set of parameters."""

    def __call__(self, params: Mapping[str, Any], /) -> Known:
        """Return the knowledge about one set of parameters."""


class KnownTable(NamedTuple):
    """Knowledge about many sets of categorical parameters; see :class:`Known`.

    Attributes:
        features: Features, shape (candidates, features).
        objectives: Computed objectives by position, shape (candidates,).
        constraints: Computed constraints by name, shape (candidates,).
    """

    features: NDArray[np.float64]
    objectives: Mapping[int, NDArray[np.float64]]
    constraints: Mapping[str, NDArray[np.float64]]


@runtime_checkable
class ManyKnown(Knowledge, Protocol):
    """Knowledge that is also available for many candidates at once, which is far faster."""

    def many(self, choices: Mapping[str, NDArray[np.int64]]) -> KnownTable:
        """Return the knowledge about candidates whose parameters are all categorical.

        Args:
            choices: For each parameter, the index of every candidate's choice, shape
                (candidates,). Parameters with a single choice may be left out.
        """
