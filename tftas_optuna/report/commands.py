"""Commands to run next for a study: after a search, in notes and in reports."""

from __future__ import annotations

import contextlib
import itertools
import math
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage import list_studies, open_storage
from tftas_optuna.storage.naming import DEFAULT_STORAGE, shown
from tftas_optuna.study.attributes import attributes, write_attribute
from tftas_optuna.study.selection import SHOWN, cost_of, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study

    from tftas_optuna.metrics import Indicator
    from tftas_optuna.scoring.conditions import Conditions
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

# Images of a batch where none are asked for; importing it would need another room.
_N_IMAGES = 8
# User attribute of a study: the command that began its search.
_COMMAND = "command"


class Command(NamedTuple):
    """A command line.

    Attributes:
        line: The line to type.
        purpose: What the command is for.
    """

    line: str
    purpose: str


def record_command(study: Study, words: Sequence[str], storage: str) -> None:
    """Record in a study the command that searches it, unless an earlier one is recorded.

    Args:
        study: The study.
        words: The arguments of ``tftas-optuna``; none if another command began the study.
        storage: The storage as it was given; its password is left out.
    """
    if words and _COMMAND not in study.user_attrs:
        line = _line(*(word.replace(storage, shown(storage)) for word in words))
        write_attribute(study, _COMMAND, line)


def next_commands(
    storage: str, study_name: str, front: Sequence[Candidate], settings: StudySettings
) -> list[Command]:
    """Return the commands to run next for a searched study.

    Args:
        storage: The study's storage.
        study_name: Its name.
        front: Its front, not empty.
        settings: Its settings.
    """
    where = _where(storage, study_name)
    exact = ["--exact"] if any(len(c.exact) < len(c.approximated) for c in front) else []
    cost = cost_of(settings)
    costs = sorted(candidate.value(cost) for candidate in spread(front, SHOWN, settings))
    budget = _bound(cost, _rounded_up(costs[len(costs) // 2]))
    together = ["--shared"] if len(front) > 1 else []
    # A start that the user has chosen for the search is worth keeping.
    start = [] if settings.conditions.supernet.path is None else ["--supernet", "study"]
    return [
        Command(_line("front", *where, *exact, "-f", "csv"), "the whole front"),
        Command(_line("export", *where, "--best", *budget), "one of a budget"),
        Command(
            _line("retrain", *where, *together, *start, "--data-dir", "DIR"),
            "the front, trained together" if together else "the front, trained",
        ),
        Command(_line("dashboard", *where), "the study in a browser"),
    ]


def trained_command(storage: str, study_name: str, key: str) -> str:
    """Return the line that shows a front with the accuracies of certain trainings.

    Args:
        storage: The study's storage.
        study_name: Its name.
        key: The key of the trainings.
    """
    return _line("front", *_where(storage, study_name), "--trained", key)


def shared_commands(
    supernet: str, data_dir: str, storage: str, study_name: str | None
) -> list[Command]:
    """Return the commands to run next after a shared training.

    Args:
        supernet: The directory of the trained supernet.
        data_dir: The images that it was trained on.
        storage: The storage of the study.
        study_name: The study that the members come from; None without one.
    """
    name = f"{PurePath(supernet).name.removesuffix('-shared')}-accuracy"
    search = _line(
        *("run", "--supernet", supernet, "--objectives", "accuracy,n_params"),
        *("--data-dir", data_dir, *_where(storage, _new_name(storage, name))),
    )
    commands = [Command(search, "search again, for accuracy")]
    if study_name is not None:
        best = ("--best", "-f", "onnx", "--weights", supernet)
        commands.append(
            Command(_line("export", *_where(storage, study_name), *best), "the best, deployed")
        )
    return commands


def race_commands(best: str, data_dir: str) -> list[Command]:
    """Return the commands to run next after a race.

    Args:
        best: The directory of the best network.
        data_dir: The images that it was trained on.
    """
    return [
        Command(_line("evaluate", best, "--data-dir", data_dir), "the best, class by class"),
        Command(_line("export", best, "-f", "onnx"), "the best, deployed"),
    ]


def search_command(objective: Indicator, conditions: Conditions, space: str, storage: str) -> str:
    """Return the line that searches by an indicator, under the conditions it was compared in.

    Args:
        objective: The indicator; the number of parameters is the second objective.
        conditions: The conditions.
        space: The space, as ``--space`` takes it.
        storage: The storage of the new study.
    """
    supernet = conditions.supernet
    seen = conditions.images if objective.batches else None
    labelled = conditions.evaluation if objective.labelled else None
    n_images = [source.n_images for source in (seen, labelled) if source is not None]
    folders = [source.data_dir for source in (seen, labelled) if source is not None]
    # Each with what `run` takes without the option.
    options: dict[str, tuple[int | str | None, ...]] = {
        "--img-size": (conditions.img_size, conditions.space.img_size),
        "--num-classes": (conditions.num_classes, conditions.space.num_classes),
        "--supernet": (supernet.path, None),
        "--supernet-seed": (supernet.seed, 0),
        "--n-seeds": (conditions.n_seeds, 1),
        "--n-images": (next(iter(n_images), None), None if seen is None else _N_IMAGES),
        "--data-dir": (next(iter(folders), None), None),
    }
    given = [
        word
        for option, (value, usual) in options.items()
        if value != usual
        for word in (option, str(value))
    ]
    name = _new_name(storage, f"{conditions.space.name}-{objective.name}")
    return _line(
        *("run", "--space", space, "--objectives", f"{objective.name},n_params"),
        *(*given, *_where(storage, name)),
    )


def report_commands(
    study: Study, picked: Sequence[Candidate], storage: str | None, trained: str | None
) -> list[Command]:
    """Return the commands that reproduce a study and its report, and continue with its members.

    The search is included only if it was started on the command line.

    Args:
        study: The study.
        picked: The members that the report shows.
        storage: The study's storage; its password is left out.
        trained: Key of the trainings that the report shows, if one was given.
    """
    where = _where(DEFAULT_STORAGE if storage is None else shown(storage), study.study_name)
    trials = [f"--trial={candidate.trial}" for candidate in picked]
    which = [] if trained is None else ["--trained", trained]
    commands = [Command(_line("report", *where, *trials, *which), "this report")]
    if (search := attributes(study).get(_COMMAND)) is not None:
        commands.insert(0, Command(str(search), "the search"))
    if trials:
        training = _line("retrain", *where, *trials, "--data-dir", "DIR")
        commands += [
            Command(_line("export", *where, *trials), "the picked members as files"),
            Command(training, "the picked members, trained"),
        ]
    return commands


def _new_name(storage: str, name: str) -> str:
    """Return a name for a study that no study of a storage has, the given one or with a number."""
    taken: list[str] = []
    with contextlib.suppress(UnavailableError):
        taken = list_studies(open_storage(storage, create=False), storage)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(one for one in names if one not in taken)


def _where(storage: str, study_name: str) -> list[str]:
    option = [] if storage == DEFAULT_STORAGE else ["--storage", storage]
    return [*option, "--study-name", study_name]


def _line(*words: str) -> str:
    return shlex.join(["tftas-optuna", *words])


def _bound(cost: str, most: str) -> list[str]:
    """Return the option that bounds a cost from above."""
    option = {"n_params": "--params-max", "macs": "--macs-max", "latency": "--latency-max"}
    return [option[cost], most] if cost in option else ["--bound", f"{cost}<={most}"]


def _rounded_up(cost: float) -> str:
    """Format a cost for an option, rounded up to three digits: ``7.19M``, ``36.4k``, ``12.5``."""
    units = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
    unit, name = next((u for u in units if cost >= u[0]), units[-1])
    step = 10.0 ** (math.floor(math.log10(cost)) - 2)
    return f"{math.ceil(cost / step) * step / unit:.3g}{name}"
