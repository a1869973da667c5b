"""What there is to say of a study in one line of a list."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tftas_optuna.errors import TftasError
from tftas_optuna.study.front import pareto_front
from tftas_optuna.study.record import has_settings, read_settings

if TYPE_CHECKING:
    import datetime

    from optuna import Study

    from tftas_optuna.study.settings import StudySettings


@dataclasses.dataclass(frozen=True)
class StudyOverview:
    """One study of a storage, whoever made it.

    Attributes:
        name: Its name.
        objectives: Names of what is optimised, as far as it has some.
        directions: What is better of each.
        n_trials: Its trials, whatever their state.
        begun: When its first trial began; None without one.
        settings: What it was made with; None of a study that cannot be read as one of this
            package.
        n_front: Architectures on its front; None likewise.
        problem: Why it cannot be read; None where it can.
        version: The release of this package that made it; None where that is not told.
    """

    name: str
    objectives: tuple[str, ...]
    directions: tuple[str, ...]
    n_trials: int
    begun: datetime.datetime | None
    settings: StudySettings | None = None
    n_front: int | None = None
    problem: str | None = None
    version: str | None = None


def overview(study: Study) -> StudyOverview:
    """Look at a study; one that is foreign or damaged is told as such."""
    trials = study.get_trials(deepcopy=False)
    starts = [trial.datetime_start for trial in trials if trial.datetime_start is not None]
    found = StudyOverview(
        name=study.study_name,
        objectives=tuple(study.metric_names or ()),
        directions=tuple(direction.name.lower() for direction in study.directions),
        n_trials=len(trials),
        begun=min(starts, default=None),
    )
    if not has_settings(study):
        return dataclasses.replace(found, problem="not made by tftas-optuna")
    try:
        settings = read_settings(study)
        n_front = len(pareto_front(study))
    except TftasError as error:
        return dataclasses.replace(found, problem=str(error))
    versions = study.user_attrs.get("versions")
    version = versions.get("tftas-optuna") if isinstance(versions, dict) else None
    return dataclasses.replace(
        found,
        objectives=settings.objectives,
        settings=settings,
        n_front=n_front,
        version=version,
    )
