"""Accuracies on images that no objective of a study saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.study.attributes import attributes, write_attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

    from tftas_optuna.study.settings import StudySettings

HELD_OUT = "accuracy_held_out"


class HeldOut(NamedTuple):
    """Accuracies of candidates on images that were held out from the objectives.

    Attributes:
        values: Accuracies in per cent by the number of the trial, as text.
        digest: SHA-256 of the images; None if there are no accuracies.
        seen: Which images these are, for people.
    """

    values: Mapping[str, float] = {}
    digest: str | None = None
    seen: str = ""


def read_held_out(study: Study) -> HeldOut:
    """Read the accuracies of a study on held-out images."""
    return HeldOut(**attributes(study).get(HELD_OUT, {}))


def write_held_out(study: Study, held_out: HeldOut) -> None:
    """Write accuracies on held-out images into a study, in place of those that it has."""
    write_attribute(study, HELD_OUT, held_out._asdict())


def images_text(study: Study, settings: StudySettings) -> str:
    """Say which labelled images were searched on and which were held out; empty if none."""
    evaluation = settings.conditions.evaluation
    if evaluation is None:
        return ""
    held_out = read_held_out(study)
    return f"{evaluation.seen}" + (f"; held out: {held_out.seen}" if held_out.values else "")
