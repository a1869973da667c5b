"""What every metric has: a name, a direction and a unit."""

from __future__ import annotations

import math
import re
from typing import Literal

from tftas_optuna.errors import TftasError

Direction = Literal["maximize", "minimize"]

DIRECTIONS: tuple[Direction, ...] = ("minimize", "maximize")

# What a study appends to the name of an indicator; see tftas_optuna.study.
_ENDINGS = ("_exact", "_collapsed", "_sd")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Metric:
    """Something that an architecture is measured by: an objective, or a bound, or both.

    Attributes:
        name: What objectives and bounds call it.
        direction: What is better, ``"maximize"`` or ``"minimize"``.
        unit: Unit of its values, empty for counts and plain scores.

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


def is_name(name: str) -> bool:
    """Tell whether a text has the form of a metric's name."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> None:
    """Check that a metric may have a name.

    Raises:
        TftasError: It has other characters than lower-case letters, digits and underscores, or
            an ending that studies append to names.
    """
    if not isinstance(name, str) or not is_name(name):
        raise TftasError(
            f"{name!r} cannot be a name; up to 64 lower-case letters, digits and underscores are"
            " allowed, beginning with a letter"
        )
    ending = next((ending for ending in _ENDINGS if name.endswith(ending)), None)
    if ending is not None:
        raise TftasError(
            f"{name!r} cannot be a name: studies append {ending!r} to the names of indicators;"
            " give another"
        )


class NotFiniteError(TftasError):
    """A score is no finite number."""


def checked(name: str, score: float, of: str = "") -> float:
    """Return a score of an indicator that may be anything a float can be.

    Args:
        name: The indicator.
        score: What it gives.
        of: What was scored, for the error.

    Raises:
        NotFiniteError: It is no finite number.
    """
    if not math.isfinite(score):
        told = f" ({of})" if of else ""
        raise NotFiniteError(f"indicator {name!r} gives {score}, which is no finite number{told}")
    return score
