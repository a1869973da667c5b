"""Evaluations of trained networks, in files beside the networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tftas_optuna._writing import file_stem, json_text, replacing
from tftas_optuna.study.accuracy import training_sets

if TYPE_CHECKING:
    from optuna import Study

_NAME = "evaluation-{}.json"
_MODEL = "model_digest"


class TrialEvaluation(NamedTuple):
    """The evaluation of a network that a trial of a study was trained to.

    Attributes:
        trial: Number of the trial.
        split: Name of the images.
        n_images: Their number.
        top1: Accuracy in per cent.
        classes: Names of the classes.
        confusion: Numbers of images, a row for each class and a column for each prediction; empty
            if there are too many classes.
    """

    trial: int
    split: str
    n_images: int
    top1: float
    classes: list[str]
    confusion: list[list[int]]


def write_evaluation(
    folder: Path, split: str, row: dict[str, Any], *, model_digest: str | None
) -> Path:
    """Write what ``evaluate`` tells into the directory of the network.

    Args:
        folder: The directory.
        split: Name of the images; a part of the file's name.
        row: What is told.
        model_digest: Digest of the weights, as the study records it.

    Returns:
        The file, ``evaluation-SPLIT.json``.

    Raises:
        OSError: It cannot be written.
    """
    path = folder / _NAME.format(file_stem(split))
    with replacing(path) as scratch:
        text = json_text({**row, _MODEL: model_digest}, indent=None) + "\n"
        scratch.write_text(text, encoding="utf-8")
    return path


def read_evaluations(study: Study) -> list[TrialEvaluation]:
    """Return the evaluations of the networks that a study's trials were trained to.

    Those are read from the directories that the study records, where they are still there and
    hold the weights that were evaluated. Files that are damaged are left out.
    """
    evaluations = []
    records = {
        (number, str(record.get("out"))): record.get(_MODEL)
        for trainings in training_sets(study)
        for number, several in trainings.records.items()
        for record in several
    }
    for (number, out), digest in sorted(records.items()):
        for path in sorted(Path(out).glob(_NAME.format("*"))):
            evaluation = _read(path, number, digest)
            if evaluation is not None:
                evaluations.append(evaluation)
    return evaluations


def _read(path: Path, trial: int, digest: str | None) -> TrialEvaluation | None:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if digest is None or row[_MODEL] != digest:
            return None
        confusion = [[int(n) for n in line] for line in row.get("confusion") or []]
        classes = [str(name) for name in row["class_names"]] if confusion else []
        if {len(confusion), *map(len, confusion)} != {len(classes)}:
            return None
        return TrialEvaluation(
            trial, str(row["split"]), int(row["n_images"]), float(row["top1"]), classes, confusion
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
