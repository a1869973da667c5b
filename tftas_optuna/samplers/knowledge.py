"""What can be told of parameters without trying them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


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


Knowledge = Callable[[Mapping[str, Any]], Known]
