"""Notes for optuna-dashboard that describe a study and its trials.

The text is written between two link definitions, which are not displayed (comments would be shown
as text). The rest of a note belongs to the user and stays.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tftas_optuna.architecture.drawing import draw
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics.bounds import violations
from tftas_optuna.study._optuna import storage_of
from tftas_optuna.study.accuracy import training_sets
from tftas_optuna.study.record import bounds_text, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optuna import Study

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.settings import StudySettings

_BEGIN = "[tftas-optuna-begin]: # (written anew, up to the end)"
_END = "[tftas-optuna-end]: # (the end)"
_OURS = re.compile(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", re.DOTALL)
# The start of the lines that release 0.1.0 wrote.
_OLD = "**Retrained:**"
_SHARED = "**Shared training:**"
# Characters with a meaning in Markdown, HTML or formulas, within a line or a cell.
_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<>|~$&"})


def write_study_note(study: Study, n_front: int, commands: Sequence[tuple[str, str]]) -> None:
    """Write the settings of a study and the next commands to type into its note.

    Args:
        study: The study.
        n_front: Number of architectures on its front.
        commands: Command lines, each with its purpose.
    """
    settings = read_settings(study)
    n_trials = len(study.get_trials(deepcopy=False))
    versions = study.user_attrs.get("versions", {})
    facts = {
        **_facts(settings),
        "made with": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    lines = [f"{_printable(command)}    # {purpose}" for command, purpose in commands]
    text = [
        f"**{n_trials} trials**, {n_front} architectures on the Pareto front.",
        _table(facts),
        "Next:",
        _fenced("\n".join(lines)),
    ]
    _write(study, "\n\n".join(text))


def write_trial_notes(study: Study, candidates: Iterable[Candidate]) -> None:
    """Write the values, blocks and accuracies of candidates into the notes of their trials."""
    settings = read_settings(study)
    sets = [
        (title, trainings)
        for title, shared in ((_OLD, False), (_SHARED, True))
        for trainings in training_sets(study, shared=shared)
    ]
    storage, study_id = storage_of(study)
    for candidate in candidates:
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, candidate.trial)
        records = [
            (title, trainings.key, record)
            for title, trainings in sets
            for record in trainings.records.get(candidate.trial, ())
        ]
        _write(study, _trial_text(candidate, settings, records), trial_id)


def _trial_text(
    candidate: Candidate,
    settings: StudySettings,
    records: Sequence[tuple[str, str, Mapping[str, Any]]],
) -> str:
    arch = candidate.architecture
    values = {
        name: f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
        for name, value in candidate.named_values().items()
    }
    text = [f"**{escaped(arch.summary())}**", _table(values)]
    if settings.bounds:
        where = "Beyond" if _exceeds(candidate, settings) else "Within"
        text.append(f"{where} the bounds: {escaped(bounds_text(settings.bounds))}.")
    idle = [f"`{name}`" for name in _without_effect(settings.space, arch)]
    if idle:
        text.append(f"Not used, as they lie beyond its depth: {', '.join(idle)}.")
    text.append(_fenced(draw(arch)))
    for title, key, record in records:
        how = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in record.items()
            if name != "top1"
        )
        text.append(
            f"{title} top-1 {float(record['top1']):.2f} % ({escaped(how)}; trainings {key})"
        )
    return "\n\n".join(text)


def _exceeds(candidate: Candidate, settings: StudySettings) -> bool:
    """Return whether a candidate violates a bound; metrics without a value are ignored."""
    bounds = {name: b for name, b in settings.bounds.items() if name in candidate.values}
    return any(excess > 0 for excess in violations(candidate.value, bounds).values())


def _without_effect(space: SearchSpace, arch: Architecture) -> list[str]:
    """Return the names of the parameters that have no effect on an architecture."""
    params = space.encode(arch)
    names = []
    for name, distribution in space.distributions().items():
        other = next((c for c in distribution.choices if c != params[name]), None)
        try:
            if other is not None and space.decode({**params, name: other}) == arch:
                names.append(name)
        except TftasError:
            # The other value is not an architecture, so this parameter has an effect.
            continue
    return names


def _facts(settings: StudySettings) -> dict[str, str]:
    space, conditions = settings.space, settings.conditions
    size = conditions.img_size
    choices = "; ".join(
        f"{name} {', '.join(map(str, value))}"
        for name, value in space.to_dict().items()
        if isinstance(value, list)
    )
    objectives = (
        f"{settings.label(name)} ({direction})"
        for name, direction in zip(settings.objectives, settings.directions, strict=True)
    )
    sampler = {"seed": settings.seed, "population size": settings.population_size}
    sampler_facts = (f"{name} {value}" for name, value in sampler.items() if value is not None)
    facts = {
        "space": f"{space.name}, family {space.family}",
        "choices": choices,
        "objectives": ", ".join(objectives),
        "bounds": bounds_text(settings.bounds),
        "sampler": ", ".join((settings.sampler or "its user's", *sampler_facts)),
        "supernet": f"{conditions.supernet}, {conditions.n_seeds} averaged",
        "networks": f"{size}x{size}, {conditions.num_classes} classes",
    }
    if conditions.images is not None:
        facts["images"] = str(conditions.images)
    if settings.deployment is not None:
        facts["measured on"] = ", ".join(f"{k} {v}" for k, v in settings.deployment.items())
    return facts


def escaped(text: str) -> str:
    """Return text in one line, with the special characters of Markdown and HTML escaped."""
    return " ".join(_printable(text).split()).translate(_SPECIAL)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _table(facts: Mapping[str, str]) -> str:
    rows = [f"| {escaped(name)} | {escaped(value)} |" for name, value in facts.items()]
    return "\n".join(("| | |", "|---|---|", *rows))


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def _write(study: Study, text: str, trial_id: int | None = None) -> None:
    """Replace our part of the note of a study, or of one of its trials."""
    # Imported late, as it loads scikit-learn, which takes more than a second.
    from optuna_dashboard import get_note, save_note

    storage, study_id = storage_of(study)
    # optuna-dashboard expects a running trial, but reads only these three attributes of it.
    running: Any = SimpleNamespace(
        storage=storage, study=SimpleNamespace(_study_id=study_id), _trial_id=trial_id
    )
    owner = study if trial_id is None else running
    before = get_note(owner)
    ours = f"{_BEGIN}\n\n{text}\n\n{_END}"
    if _OURS.search(before):
        after = _OURS.sub(lambda _: ours, before)
    else:
        users = [line for line in before.splitlines() if not line.startswith(_OLD)]
        after = "\n\n".join((*filter(None, ["\n".join(users)]), ours))
    if after != before:
        save_note(owner, after)
