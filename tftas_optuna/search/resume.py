"""What a search finds in its study: its own generations, and what came from elsewhere."""

from __future__ import annotations

import dataclasses
from itertools import islice
from typing import TYPE_CHECKING

from tftas_optuna.errors import UnavailableError
from tftas_optuna.study.own import own_trials
from tftas_optuna.study.place import place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.study.settings import StudySettings


@dataclasses.dataclass(frozen=True)
class PastGeneration:
    """A whole generation of this search.

    Attributes:
        trials: Its trials, in order.
        arrived: Trials from elsewhere that were stored along with it; a search learns them one
            generation later.
    """

    trials: list[FrozenTrial]
    arrived: list[FrozenTrial]


@dataclasses.dataclass(frozen=True)
class Past:
    """What a study holds when a search begins.

    Attributes:
        trials: All finished trials that stand for an architecture, those without a score too.
        before: Those from elsewhere that came before this search's first generation.
        generations: The whole generations of this search.
        partial: The trials so far of the generation to go on with.
        last_number: Number of the last trial of the generations before that.
        next_number: The number that the next trial of the study gets, at least.
    """

    trials: list[FrozenTrial]
    before: list[FrozenTrial]
    generations: list[PastGeneration]
    partial: list[FrozenTrial]
    last_number: int
    next_number: int


def read_past(study: Study, settings: StudySettings, island: int, sizes: Iterator[int]) -> Past:
    """Sort the trials of a study for a search that goes on.

    Args:
        study: The study.
        settings: Its settings.
        island: Number of this search within it.
        sizes: Trials of each whole generation.

    Raises:
        UnavailableError: A generation of this search is missing.
    """
    stored = study.get_trials(deepcopy=False)
    trials = own_trials(study, settings, stored, with_failed=True)
    next_number = len(stored)
    generations, others = _sort(trials, island)
    begins = [mine[0].number for mine in generations if mine]
    began = begins[0] if begins else next_number
    n_generations = len(generations)
    partial: list[FrozenTrial] = []
    size = next(islice(sizes, max(len(generations) - 1, 0), None))
    if generations and len(generations[-1]) < size:
        partial = generations.pop()
    ends = [began - 1]
    for number, mine in enumerate(generations):
        if not mine:
            # Only others can have been first to store all of it, since it was proposed.
            since = ends[number - 1] if number else -1
            until = next(begin for begin in begins if begin > ends[-1])
            if not any(since < trial.number < until for trial in others):
                raise UnavailableError(
                    f"study {study.study_name!r} lacks generation {number} of {n_generations};"
                    " give another --study-name"
                )
        ends.append(mine[-1].number if mine else ends[-1])
    return Past(
        trials=trials,
        before=[trial for trial in others if trial.number < began],
        generations=[
            PastGeneration(mine, [trial for trial in others if start < trial.number < end])
            for mine, start, end in zip(generations, ends, ends[1:], strict=False)
        ],
        partial=partial,
        last_number=ends[-1],
        next_number=next_number,
    )


def _sort(
    trials: Sequence[FrozenTrial], island: int
) -> tuple[list[list[FrozenTrial]], list[FrozenTrial]]:
    """Tell the generations of this search from what came from elsewhere."""
    generations: list[list[FrozenTrial]] = []
    others = []
    for trial in trials:
        place = place_of(trial)
        if place is None or place.island != island:
            others.append(trial)
            continue
        while len(generations) <= place.generation:
            generations.append([])
        generations[place.generation].append(trial)
    return generations, others
