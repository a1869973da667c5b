"""The commands that make a study again, and that go on from it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.metrics import metric_names
from tftas_optuna.spaces import get_space, space_names
from tftas_optuna.storage.naming import DEFAULT_STORAGE, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings


SEARCH = "the search"


class Command(NamedTuple):
    """A command line.

    Attributes:
        line: What is typed.
        purpose: What it does.
    """

    line: str
    purpose: str


def commands(
    study: Study,
    settings: StudySettings,
    picked: Sequence[Candidate],
    storage: str | None,
    trained: str | None,
) -> list[Command]:
    """List the commands that make a study and this report again, and go on with its members.

    The search is not among them where the command line has no words for it, such as for a study
    that was made from Python with options of an indicator.

    Args:
        study: The study.
        settings: Its settings.
        picked: The members that the report shows.
        storage: Where the study lies; its password is left out.
        trained: Which accuracies the report shows, if that was asked for.
    """
    where = []
    if storage not in (None, DEFAULT_STORAGE):
        where += ["--storage", shown(str(storage))]
    where += [f"--study-name={study.study_name}"]
    found = []
    making = _run(settings, len(study.get_trials(deepcopy=False)), where)
    if making is not None:
        found.append(Command(making, SEARCH))
    trials = [f"--trial={candidate.trial}" for candidate in picked]
    which = [] if trained is None else ["--trained", trained]
    found.append(Command(_line("report", *where, *trials, *which), "this report"))
    if trials:
        found.append(Command(_line("export", *where, *trials), "the picked members as files"))
        training = _line("retrain", *where, *trials, "--data-dir", "DIR")
        found.append(Command(training, "the picked members, trained"))
    return found


def space_argument(settings: StudySettings) -> str:
    """Return what ``--space`` takes: the name of a preset, or that of a file to be written."""
    name = settings.space.name
    if name in space_names() and get_space(name) == settings.space:
        return name
    return "space.yaml"


def _run(settings: StudySettings, n_trials: int, where: list[str]) -> str | None:
    """Write the search; None where the command line has no words for it."""
    known = set(metric_names())
    if settings.sampler is None or settings.options or not known.issuperset(settings.objectives):
        return None
    if len(settings.objectives) > 3:
        return None
    words = ["--space", space_argument(settings)]
    words += ["--n-trials", str(n_trials)] if n_trials else []
    words += ["--objectives", ",".join(settings.objectives)]
    for name, (low, high) in settings.bounds.items():
        for sign, limit in ((">=", low), ("<=", high)):
            if limit is not None and limit <= 0:
                return None
            words += [] if limit is None else ["--bound", f"{name}{sign}{_decimal(limit)}"]
    words += ["--sampler", settings.sampler]
    if settings.population_size is not None:
        words += ["--population-size", str(settings.population_size)]
    conditions, images = settings.conditions, settings.conditions.images
    words += ["--seed", str(settings.seed or 0), "--supernet-seed", str(conditions.supernet.seed)]
    if settings.approximated:
        words += ["--fidelity", settings.fidelity]
    if conditions.n_seeds > 1:
        words += ["--n-seeds", str(conditions.n_seeds)]
    if images is not None:
        words += ["--n-images", str(images.n_images)]
        words += [] if images.data_dir is None else ["--data-dir", images.data_dir]
    for option, value, usual in (
        ("--img-size", conditions.img_size, settings.space.img_size),
        ("--num-classes", conditions.num_classes, settings.space.num_classes),
    ):
        words += [] if value == usual else [option, str(value)]
    return _line("run", *where, *words, *_deployed(settings))


def _deployed(settings: StudySettings) -> list[str]:
    told = settings.deployment or {}
    words = []
    for option, key in (
        ("--device", "device"),
        ("--latency-batch-size", "batch_size"),
        ("--latency-threads", "threads"),
    ):
        if told.get(key) is not None:
            words += [option, str(told[key])]
    return words


def _decimal(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _line(command: str, *words: str) -> str:
    return shlex.join(["tftas-optuna", command, *words])
