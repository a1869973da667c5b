"""Notes for optuna-dashboard: what a study searched, and what a trial stands for.

What is written here stands between two definitions of links, which nobody sees (comments would be
shown as text); whatever else a note says is its user's, and stays.
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
# How release 0.1.0 began the lines that it wrote.
_OLD = "**Retrained:**"
# What means something within a line or a cell, of Markdown, HTML, or formulas.
_SPECIAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<>|~$&"})


def write_study_note(study: Study, n_front: int, commands: Sequence[tuple[str, str]]) -> None:
    """Say in a study's note what was searched, with which settings, and what to type next.

    Args:
        study: The study.
        n_front: Architectures on its front.
        commands: Command lines, and what each is for.
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
    """Say in the notes of trials what they stand for: values, blocks, and accuracy."""
    settings = read_settings(study)
    trained = training_sets(study)
    storage, study_id = storage_of(study)
    for candidate in candidates:
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, candidate.trial)
        records = [
            (one.key, record) for one in trained for record in one.records.get(candidate.trial, ())
        ]
        _write(study, _told(candidate, settings, records), trial_id)


def _told(
    candidate: Candidate,
    settings: StudySettings,
    records: Sequence[tuple[str, Mapping[str, Any]]],
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
    for key, record in records:
        how = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in record.items()
            if name != "top1"
        )
        text.append(
            f"{_OLD} top-1 {float(record['top1']):.2f} % ({escaped(how)}; trainings {key})"
        )
    return "\n\n".join(text)


def _exceeds(candidate: Candidate, settings: StudySettings) -> bool:
    """Tell whether a candidate is outside a bound, as far as its metrics are known."""
    known = {name: b for name, b in settings.bounds.items() if name in candidate.values}
    return any(excess > 0 for excess in violations(candidate.value, known).values())


def _without_effect(space: SearchSpace, arch: Architecture) -> list[str]:
    """List the parameters of a space that do not matter to an architecture."""
    params = space.encode(arch)
    found = []
    for name, distribution in space.distributions().items():
        other = next((c for c in distribution.choices if c != params[name]), None)
        try:
            if other is not None and space.decode({**params, name: other}) == arch:
                found.append(name)
        except TftasError:
            # Not every combination need be an architecture: this parameter matters.
            continue
    return found


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
    told = (f"{name} {value}" for name, value in sampler.items() if value is not None)
    facts = {
        "space": f"{space.name}, family {space.family}",
        "choices": choices,
        "objectives": ", ".join(objectives),
        "bounds": bounds_text(settings.bounds),
        "sampler": ", ".join((settings.sampler or "its user's", *told)),
        "supernet": f"{conditions.supernet}, {conditions.n_seeds} averaged",
        "networks": f"{size}x{size}, {conditions.num_classes} classes",
    }
    if conditions.images is not None:
        facts["images"] = str(conditions.images)
    if settings.deployment is not None:
        facts["measured on"] = ", ".join(f"{k} {v}" for k, v in settings.deployment.items())
    return facts


def escaped(text: str) -> str:
    """Write text so that Markdown, and HTML in it, shows it as it is, in one line."""
    return " ".join(_printable(text).split()).translate(_SPECIAL)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _table(facts: Mapping[str, str]) -> str:
    rows = [f"| {escaped(name)} | {escaped(value)} |" for name, value in facts.items()]
    return "\n".join(("| | |", "|---|---|", *rows))


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def _write(study: Study, text: str, trial_id: int | None = None) -> None:
    """Put our part of a note in place of what it was; of the study, or of one of its trials."""
    # Only now: it takes more than a second, as it loads scikit-learn.
    from optuna_dashboard import get_note, save_note

    storage, study_id = storage_of(study)
    # optuna-dashboard asks for a running trial, and looks at these three attributes of it.
    running: Any = SimpleNamespace(
        storage=storage, study=SimpleNamespace(_study_id=study_id), _trial_id=trial_id
    )
    of = study if trial_id is None else running
    before = get_note(of)
    ours = f"{_BEGIN}\n\n{text}\n\n{_END}"
    if _OURS.search(before):
        after = _OURS.sub(lambda _: ours, before)
    else:
        others = [line for line in before.splitlines() if not line.startswith(_OLD)]
        after = "\n\n".join((*filter(None, ["\n".join(others)]), ours))
    if after != before:
        save_note(of, after)
