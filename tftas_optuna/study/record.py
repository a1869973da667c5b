"""The settings of a study as it records them: written, read back, and compared."""

from __future__ import annotations

import dataclasses
import json
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

from optuna.exceptions import ExperimentalWarning

from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics.units import short
from tftas_optuna.scoring.conditions import Conditions, difference
from tftas_optuna.study.attributes import attributes, write_attribute
from tftas_optuna.study.legacy import upgraded
from tftas_optuna.study.settings import StudySettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study

    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.metrics import Direction

RECORD_VERSION = 2

# The last attribute that is written: where it stands, the record is complete.
_MARK = "space_definition"
_VERSION = "record_version"
_METERS = "cost_records"
_REFERENCE = "reference"
_MEASURED = "measured"
_VERSIONS = ("tftas-optuna", "optuna", "torch", "timm")


def write_settings(study: Study, settings: StudySettings) -> None:
    """Record settings, and the versions of what runs, in a study.

    An approximated indicator carries its fidelity in the metric's name: ``NAME_collapsed``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([settings.label(name) for name in settings.objectives])
    record = {
        _VERSION: RECORD_VERSION,
        **settings.attributes(),
        "versions": {name: _version(name) for name in _VERSIONS},
    }
    record[_MARK] = record.pop(_MARK)
    for name, value in record.items():
        write_attribute(study, name, value)


def has_settings(study: Study) -> bool:
    """Tell whether a study holds a complete record."""
    return _MARK in study.user_attrs and study.metric_names is not None


def read_settings(study: Study) -> StudySettings:
    """Read the settings of a study back, those of earlier releases too.

    Raises:
        UnavailableError: The study was not made by this package or by a later release of it, or
            its record is damaged.
    """
    told = attributes(study)
    foreign = f"study {study.study_name!r} holds no architectures of tftas-optuna"
    if not has_settings(study):
        raise UnavailableError(f"{foreign}; make one with `tftas-optuna run`")
    if told.get(_VERSION, 1) not in range(1, RECORD_VERSION + 1):
        raise UnavailableError(
            f"study {study.study_name!r} was made by a later release; upgrade tftas-optuna"
        )
    if _VERSION not in told:
        told = upgraded(told, study.metric_names or [])
    directions = [direction.name.lower() for direction in study.directions]
    try:
        return StudySettings(
            conditions=Conditions.from_dict(told),
            objectives=tuple(map(str, told["objectives"])),
            directions=tuple(cast("list[Direction]", directions)),
            fidelity=str(told["fidelity"]),
            bounds={name: (low, high) for name, (low, high) in told["bounds"].items()},
            options=dict(told["options"]),
            approximated=tuple(told["approximated"]),
            seed=told["seed"],
            population_size=told["population_size"],
            sampler=told["sampler"],
            deployment=told["deployment"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnavailableError(f"{foreign}, or its record is damaged ({error})") from error


def check_directions(study: Study, settings: StudySettings) -> None:
    """Check that a study has the directions of settings that are to be written into it.

    Raises:
        UnavailableError: It does not.
    """
    theirs = tuple(direction.name.lower() for direction in study.directions)
    if theirs != settings.directions:
        raise UnavailableError(
            f"study {study.study_name!r} has the directions {', '.join(theirs)}, not"
            f" {', '.join(settings.directions)}; give another --study-name"
        )


def check_continues(study: Study, settings: StudySettings) -> None:
    """Check that new trials would mean the same as those already in a study.

    Raises:
        UnavailableError: A setting differs; names it and both values.
    """
    theirs = read_settings(study)
    name = study.study_name
    if theirs.objectives != settings.objectives:
        raise UnavailableError(
            f"study {name!r} optimises {', '.join(theirs.objectives)}, not"
            f" {', '.join(settings.objectives)}; give another --study-name"
        )
    check_directions(study, settings)
    old, new = _compared(theirs), _compared(settings)
    # A study that `search` did not make has no seed and no sampler of its own.
    told = [name for name in new if old.get(name) is not None]
    differs = difference({n: old[n] for n in told}, {n: new[n] for n in told})
    if differs is not None:
        raise UnavailableError(
            f"study {name!r} was made with {differs}; use the same to continue it, or give another"
            " --study-name"
        )


def _compared(settings: StudySettings) -> dict[str, Any]:
    """Return what has to stay the same in a study, in plain words."""
    told = {**settings.attributes(), "bounds": bounds_text(settings.bounds)}
    # Where pictures lie does not matter: their digest tells whether they are the same.
    return {name: value for name, value in told.items() if name != "data_dir"}


def as_recorded(settings: StudySettings, study: Study, names: Sequence[str]) -> StudySettings:
    """Return settings with some as a study has them, as far as it has them.

    Args:
        settings: What is asked for.
        study: The study.
        names: Settings that nobody asked for.
    """
    theirs = read_settings(study)
    found = {name: getattr(theirs, name) for name in names}
    known: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    return dataclasses.replace(settings, **known)


def meter_records(study: Study | None) -> Mapping[str, Any]:
    """Look up what was measured for the costs of a study, by name."""
    return attributes(study).get(_METERS, {}) if study is not None else {}


def keep_measured(study: Study, settings: StudySettings, records: Mapping[str, Any]) -> None:
    """Write what was measured for some settings into a study that has none yet."""
    write_attribute(study, _MEASURED, {"for": _measured_for(settings), "records": dict(records)})


def measured(study: Study | None, settings: StudySettings) -> Mapping[str, Any]:
    """Look up what was measured for some settings, by name, if a study has it in any way."""
    if study is None or has_settings(study):
        return meter_records(study)
    kept = attributes(study).get(_MEASURED, {})
    records: Mapping[str, Any] = kept.get("records", {})
    return records if kept.get("for") == _measured_for(settings) else {}


def keep_meter_records(study: Study, records: Mapping[str, Any]) -> None:
    """Write what was measured into a study, unless another search has done so meanwhile."""
    if records and not meter_records(study):
        write_attribute(study, _METERS, dict(records))


def reference(study: Study | None) -> Reference | None:
    """Look up the values of the reference sample that a study's fusions look at."""
    return attributes(study).get(_REFERENCE) if study is not None else None


def keep_reference(study: Study, values: Reference) -> None:
    """Write the values of the reference sample into a study, which has none yet."""
    if values and reference(study) is None:
        write_attribute(study, _REFERENCE, values)


def _measured_for(settings: StudySettings) -> dict[str, Any]:
    names = ("space_definition", "img_size", "num_classes", "deployment")
    told = settings.attributes()
    plain: dict[str, Any] = json.loads(json.dumps({name: told[name] for name in names}))
    return plain


def bounds_text(bounds: Mapping[str, Any]) -> str:
    """Write bounds as options take them."""
    parts = []
    for name, (low, high) in bounds.items():
        parts += [f"{name} >= {short(low)}"] if low is not None else []
        parts += [f"{name} <= {short(high)}"] if high is not None else []
    return ", ".join(parts) or "none"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
