"""The base class of metrics, with name, direction and unit."""

from __future__ import annotations

import math
import re
from typing import Literal

from tftas_optuna._given import expect
from tftas_optuna.errors import TftasError

Direction = Literal["maximize", "minimize"]

DIRECTIONS: tuple[Direction, ...] = ("minimize", "maximize")

# Suffixes that a study appends to the name of an indicator; see tftas_optuna.study.
_SUFFIXES = ("_exact", "_collapsed", "_sd")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Metric:
    """A quantity of an architecture that can be an objective or a bound: a cost or an indicator.

    Attributes:
        name: Name for objectives and bounds.
        direction: Direction of optimisation, ``"maximize"`` or ``"minimize"``.
        unit: Unit of the values, empty for counts and plain scores.

    Raises:
        TftasError: The name is not allowed, or the direction does not exist.
    """

    name: str
    direction: Direction
    unit: str

    # Subclasses are dataclasses.
    def __post_init__(self) -> None:
        check_name(self.name)
        if self.direction not in DIRECTIONS:
            raise TftasError(
                f"direction of {self.name!r} is {self.direction!r}, allowed:"
                f" {', '.join(DIRECTIONS)}"
            )
        expect(f"unit of {self.name!r}", self.unit, str, "text")


def is_name(name: str) -> bool:
    """Return whether a text has the form of a metric's name."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Check that a name is allowed for a metric.

    Raises:
        TftasError: The name has other characters than lower-case letters, digits and underscores,
            or a suffix that studies append to names.
    """
    if not isinstance(name, str) or not is_name(name):
        raise TftasError(
            f"{name!r} cannot be a name; up to 64 lower-case letters, digits and underscores are"
            " allowed, beginning with a letter"
        )
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
    if suffix is not None:
        raise TftasError(
            f"{name!r} cannot be a name: studies append {suffix!r} to the names of indicators;"
            " give another"
        )


class NotFiniteError(TftasError):
    """The score of an indicator is not a finite number."""


def checked(name: str, score: float, of: str = "") -> float:
    """Check that the score of an indicator is finite, and return it.

    Args:
        name: The indicator.
        score: The score.
        of: The architecture, for the error message.

    Raises:
        NotFiniteError: The score is not a finite number.
    """
    if not math.isfinite(score):
        suffix = f" ({of})" if of else ""
        raise NotFiniteError(
            f"indicator {name!r} gives {score}, which is not a finite number{suffix}"
        )
    return score
