"""The place of a trial in a search, which identifies it when trials are merged or resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

PLACE_KEY = "tftas_optuna:place"
REPEAT_KEY = "tftas_optuna:repeat"


class Place(NamedTuple):
    """The place of a trial in the search of its study.

    Attributes:
        island: Number of the search that made it; several may share a study.
        generation: Generation of that search, from 0.
        position: Position in the generation, from 0.
    """

    island: int
    generation: int
    position: int


def place_of(trial: FrozenTrial) -> Place | None:
    """Return the place of a trial; None if it was not made by a search of this package."""
    place = trial.system_attrs.get(PLACE_KEY)
    return Place(*place) if isinstance(place, list) and len(place) == 3 else None


def is_repeat(trial: FrozenTrial) -> bool:
    """Return whether a trial repeats an architecture because the search had no new one."""
    return REPEAT_KEY in trial.system_attrs
