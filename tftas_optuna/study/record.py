"""The record of settings and measurements in the attributes of a study."""

from __future__ import annotations

import dataclasses
import json
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

from optuna.exceptions import ExperimentalWarning

from tftas_optuna.errors import UnavailableError
from tftas_optuna.metrics.units import short
from tftas_optuna.scoring.conditions import NOT_COMPARED, Conditions, difference
from tftas_optuna.study.attributes import attributes, write_attribute
from tftas_optuna.study.legacy import upgraded
from tftas_optuna.study.settings import StudySettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study

    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.metrics import Direction

RECORD_VERSION = 2

# The last attribute to be written: if it is there, the record is complete.
_MARK = "space_definition"
_VERSION = "record_version"
_METERS = "cost_records"
_REFERENCE = "reference"
_MEASURED = "measured"
_VERSIONS = ("tftas-optuna", "optuna", "torch", "timm")


def write_settings(study: Study, settings: StudySettings) -> None:
    """Write settings and the versions of the main packages into a study.

    The metric name of an approximated indicator contains its fidelity: ``NAME_collapsed``.
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
    """Return whether a study has a complete record of settings."""
    return _MARK in study.user_attrs and study.metric_names is not None


def read_settings(study: Study) -> StudySettings:
    """Read the settings of a study, which may have been made by an earlier release.

    Raises:
        UnavailableError: The study was not made by this package, was made by a later release, or
            its record is damaged.
    """
    record = attributes(study)
    foreign = f"study {study.study_name!r} holds no architectures of tftas-optuna"
    if not has_settings(study):
        raise UnavailableError(f"{foreign}; make one with `tftas-optuna run`")
    if record.get(_VERSION, 1) not in range(1, RECORD_VERSION + 1):
        raise UnavailableError(
            f"study {study.study_name!r} was made by a later release; upgrade tftas-optuna"
        )
    if _VERSION not in record:
        record = upgraded(record, study.metric_names or [])
    directions = [direction.name.lower() for direction in study.directions]
    try:
        return StudySettings(
            conditions=Conditions.from_dict(record),
            objectives=tuple(map(str, record["objectives"])),
            directions=tuple(cast("list[Direction]", directions)),
            fidelity=str(record["fidelity"]),
            bounds={name: (low, high) for name, (low, high) in record["bounds"].items()},
            options=dict(record["options"]),
            approximated=tuple(record["approximated"]),
            seed=record["seed"],
            population_size=record["population_size"],
            sampler=record["sampler"],
            deployment=record["deployment"],
            # Release 0.2.0 did not record it.
            recipes=record.get("recipes"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnavailableError(f"{foreign}, or its record is damaged ({error})") from error


def check_directions(study: Study, settings: StudySettings) -> None:
    """Check that the directions of a study are those of the settings.

    Raises:
        UnavailableError: They differ.
    """
    directions = tuple(direction.name.lower() for direction in study.directions)
    if directions != settings.directions:
        raise UnavailableError(
            f"study {study.study_name!r} has the directions {', '.join(directions)}, not"
            f" {', '.join(settings.directions)}; give another --study-name"
        )


def check_continues(study: Study, settings: StudySettings) -> None:
    """Check that a study was made with the same settings, so that its trials are comparable.

    Raises:
        UnavailableError: A setting differs; the message has its name and both values.
    """
    recorded = read_settings(study)
    name = study.study_name
    if recorded.objectives != settings.objectives:
        raise UnavailableError(
            f"study {name!r} optimises {', '.join(recorded.objectives)}, not"
            f" {', '.join(settings.objectives)}; give another --study-name"
        )
    check_directions(study, settings)
    old, new = _compared(recorded), _compared(settings)
    # A study that was not made by `search` has no seed and no sampler.
    names = [name for name in new if old.get(name) is not None]
    differs = difference({n: old[n] for n in names}, {n: new[n] for n in names})
    if differs and differs.startswith("supernet ") and old["supernet"] != new["supernet"]:
        # A digest alone tells people nothing, and does not say what options a network had.
        ours, theirs = (s.conditions.supernet for s in (recorded, settings))
        differs = f"supernet {ours}, not {theirs}"
    if differs is not None:
        raise UnavailableError(
            f"study {name!r} was made with {differs}; use the same to continue it, or give another"
            " --study-name"
        )


def _compared(settings: StudySettings) -> dict[str, Any]:
    """Return the settings that must not change within a study, as plain data."""
    compared = {**settings.attributes(), "bounds": bounds_text(settings.bounds)}
    return {name: value for name, value in compared.items() if name not in NOT_COMPARED}


def as_recorded(settings: StudySettings, study: Study, names: Sequence[str]) -> StudySettings:
    """Replace settings that the user did not give by those recorded in a study, if any.

    Args:
        settings: The settings.
        study: The study.
        names: Names of the settings to replace.
    """
    recorded = read_settings(study)
    values: dict[str, Any] = {name: getattr(recorded, name) for name in names}
    changes = {name: value for name, value in values.items() if value is not None}
    return dataclasses.replace(settings, **changes)


def meter_records(study: Study | None) -> Mapping[str, Any]:
    """Return the measurements that the costs of a study use, by name of the cost."""
    return attributes(study).get(_METERS, {}) if study is not None else {}


def keep_measured(study: Study, settings: StudySettings, records: Mapping[str, Any]) -> None:
    """Write measurements for some settings into a study that has no settings yet."""
    write_attribute(study, _MEASURED, {"for": _measured_for(settings), "records": dict(records)})


def measured(study: Study | None, settings: StudySettings) -> Mapping[str, Any]:
    """Return the measurements in a study, with or without settings; empty if they do not apply."""
    if study is None or has_settings(study):
        return meter_records(study)
    stored = attributes(study).get(_MEASURED, {})
    records: Mapping[str, Any] = stored.get("records", {})
    return records if stored.get("for") == _measured_for(settings) else {}


def keep_meter_records(study: Study, records: Mapping[str, Any]) -> None:
    """Write measurements into a study, unless another search has written some already."""
    if records and not meter_records(study):
        write_attribute(study, _METERS, dict(records))


def reference(study: Study | None) -> Reference | None:
    """Return the values of the reference sample for a study's fusions; None if there are none."""
    return attributes(study).get(_REFERENCE) if study is not None else None


def keep_reference(study: Study, values: Reference) -> None:
    """Write the values of the reference sample into a study, unless it has some already."""
    if values and reference(study) is None:
        write_attribute(study, _REFERENCE, values)


def _measured_for(settings: StudySettings) -> dict[str, Any]:
    names = ("space_definition", "img_size", "num_classes", "deployment")
    recorded = settings.attributes()
    plain: dict[str, Any] = json.loads(json.dumps({name: recorded[name] for name in names}))
    return plain


def bounds_text(bounds: Mapping[str, Any]) -> str:
    """Return bounds as text, in the form of the command line's options."""
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
