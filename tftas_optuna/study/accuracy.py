"""Accuracies of trained architectures, written beside the scores of their trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tftas_optuna.study.attributes import attributes, write_attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

_KEY = "retrained:"


def record_accuracy(study: Study, trial: int, record: dict[str, Any]) -> None:
    """Record what a trained architecture reaches.

    Optuna adds no user attributes to finished trials, so the study holds one for each retrained
    trial: ``retrained:NUMBER``.

    Args:
        study: The study that the architecture comes from.
        trial: Number of its trial.
        record: ``top1`` in per cent, and whatever else tells how it was trained; a later
            training of the trial replaces it.
    """
    write_attribute(study, f"{_KEY}{trial}", record)


def trainings(study: Study) -> dict[int, Mapping[str, Any]]:
    """Return the records of the trials that were retrained, by the number of the trial."""
    return {
        int(name.removeprefix(_KEY)): record
        for name, record in attributes(study).items()
        if name.startswith(_KEY)
    }


def accuracies(study: Study) -> dict[int, float]:
    """Return the top-1 accuracies, in per cent, of the trials that were retrained."""
    return {number: float(record["top1"]) for number, record in trainings(study).items()}
