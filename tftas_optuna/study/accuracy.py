"""Accuracies of trained architectures, each with the conditions that it was reached under."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import statistics
from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import TftasError
from tftas_optuna.study.attributes import attributes, write_attribute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study

# Release 0.2.0 kept one training of a trial, without a key and a seed.
_NAME = re.compile(r"retrained:(\d+)(?::([a-z][0-9a-f]{7}):(\d+))?")
# What has to be equal for accuracies to be compared. Where a record has the content of something,
# its name does not count.
_CONDITIONS = ("n_train", "n_val", "num_classes", "epochs", "img_size", "weights")
_CONTENTS = {"data_digest": "data", "recipe_digest": "recipe"}


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Trainings of a study's trials under equal conditions; only their seeds differ.

    Attributes:
        key: What the conditions are called, for ``--trained``.
        records: By number of the trial, what each of its trainings reached, in the order of the
            seeds.
    """

    key: str
    records: Mapping[int, tuple[Mapping[str, Any], ...]]

    def __str__(self) -> str:
        """Say in words what the conditions are."""
        return describe_conditions(next(iter(self.records.values()))[0])

    def top1(self, trial: int) -> float | None:
        """Return the top-1 accuracy of a trial in per cent, the mean over its seeds."""
        reached = self._reached(trial)
        return statistics.fmean(reached) if reached else None

    def sd(self, trial: int) -> float | None:
        """Return the standard deviation over the seeds of a trial; None of fewer than two."""
        reached = self._reached(trial)
        return statistics.stdev(reached) if len(reached) > 1 else None

    def _reached(self, trial: int) -> list[float]:
        return [float(record["top1"]) for record in self.records.get(trial, ())]


def record_accuracy(study: Study, trial: int, record: Mapping[str, Any]) -> str:
    """Record what a trained architecture reaches.

    Optuna adds no user attributes to finished trials, so the study holds one for each training:
    ``retrained:NUMBER:KEY:SEED``. A training under the same conditions and with the same seed
    replaces the one before.

    Args:
        study: The study that the architecture comes from.
        trial: Number of its trial.
        record: ``top1`` in per cent, and whatever else tells how it was trained.

    Returns:
        The key of the conditions.
    """
    key = conditions_key(record)
    write_attribute(study, f"retrained:{trial}:{key}:{record.get('seed', 0)}", dict(record))
    return key


def conditions_key(record: Mapping[str, Any]) -> str:
    """Make a short name of the conditions of a training, the same for equal ones."""
    told = {name: record[name] for name in _CONDITIONS if name in record}
    for content, name in _CONTENTS.items():
        which = content if record.get(content) is not None else name
        told[which] = record.get(which)
    text = json.dumps(told, sort_keys=True, default=str)
    # It begins with a letter: nobody takes it for a number, in a table or on a command line.
    return f"t{hashlib.sha256(text.encode()).hexdigest()[:7]}"


def describe_conditions(record: Mapping[str, Any]) -> str:
    """Say in one line under which conditions a network was trained."""

    def named(name: str, content: str) -> str:
        digest = record.get(content)
        return f"{record.get(name, '?')}" + (f" ({str(digest)[:8]})" if digest else "")

    parts = [f"recipe {named('recipe', 'recipe_digest')}"]
    if "epochs" in record:
        parts.append(f"{record['epochs']} epochs")
    if "img_size" in record:
        parts.append(f"{record['img_size']} pixels")
    if "weights" in record:
        parts.append(f"from {record['weights']}")
    parts.append(f"on {named('data', 'data_digest')}")
    if "n_train" in record and "n_val" in record:
        parts.append(f"{record['n_train']} + {record['n_val']} images")
    if "num_classes" in record:
        parts.append(f"{record['num_classes']} classes")
    return "".join(sign if sign.isprintable() else "?" for sign in ", ".join(parts))


def training_sets(study: Study) -> list[TrainingSet]:
    """List the sets of equal conditions that trials were trained under.

    The first one has the most trials; of as many, the most epochs; of as many, the newest
    training.
    """
    found: dict[str, dict[int, dict[int, Mapping[str, Any]]]] = {}
    for name, record in attributes(study).items():
        match = _NAME.fullmatch(name)
        if match is None or not _is_record(record):
            continue
        key = match[2] or conditions_key(record)
        seed = int(match[3]) if match[3] else _integer(record.get("seed"))
        found.setdefault(key, {}).setdefault(int(match[1]), {})[seed] = record
    sets = [
        TrainingSet(
            key,
            {n: tuple(seeds[s] for s in sorted(seeds)) for n, seeds in sorted(by_trial.items())},
        )
        for key, by_trial in found.items()
    ]
    return sorted(sets, key=lambda one: _rank([one]), reverse=True)


def sets_by_key(studies: Sequence[Study]) -> dict[str, list[TrainingSet]]:
    """Collect the training sets of several studies by the key of their conditions."""
    by_key: dict[str, list[TrainingSet]] = {}
    for study in studies:
        for one in training_sets(study):
            by_key.setdefault(one.key, []).append(one)
    return by_key


def choose_key(studies: Sequence[Study], trained: str | None = None) -> str | None:
    """Choose the conditions whose accuracies are shown, the same for several studies.

    Args:
        studies: The studies.
        trained: The key of the conditions; None for those of the most trials.

    Returns:
        The key; None where nothing was trained and no key is asked for.

    Raises:
        TftasError: Nothing was trained under such conditions; lists those that there are.
    """
    by_key = sets_by_key(studies)
    ranked = sorted(by_key, key=lambda key: _rank(by_key[key]), reverse=True)
    if trained is None:
        return ranked[0] if ranked else None
    if trained not in by_key:
        known = "; ".join(
            f"{key} ({count_trials(by_key[key])}: {by_key[key][0]})" for key in ranked
        )
        raise TftasError(
            f"no trainings have the key {trained!r}; "
            + (f"there are {known}" if known else "nothing of the study was trained")
        )
    return trained


def choose_trainings(study: Study, trained: str | None = None) -> TrainingSet | None:
    """Choose the trainings of a study that are shown, all under equal conditions.

    Args:
        study: The study.
        trained: The key of the conditions; None for those of the most trials.

    Raises:
        TftasError: The study has no trainings under such conditions; lists those that there are.
    """
    key = choose_key([study], trained)
    return next((one for one in training_sets(study) if one.key == key), None)


def accuracies(study: Study, trained: str | None = None) -> dict[int, float]:
    """Return top-1 accuracies in per cent under equal conditions, by number of the trial.

    Args:
        study: The study.
        trained: The key of the conditions; None for those of the most trials.

    Raises:
        TftasError: The study has no trainings under such conditions; lists those that there are.
    """
    chosen = choose_trainings(study, trained)
    if chosen is None:
        return {}
    return {number: top1 for number in chosen.records if (top1 := chosen.top1(number)) is not None}


def count_trials(sets: Sequence[TrainingSet]) -> str:
    """Write how many trials there are, in words."""
    count = sum(len(one.records) for one in sets)
    return "1 trial" if count == 1 else f"{count} trials"


def _rank(sets: Sequence[TrainingSet]) -> tuple[int, int, str, str]:
    records = [record for one in sets for each in one.records.values() for record in each]
    return (
        sum(len(one.records) for one in sets),
        max(_integer(record.get("epochs")) for record in records),
        max(str(record.get("recorded", "")) for record in records),
        sets[0].key,
    )


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    top1 = record.get("top1")
    return isinstance(top1, int | float) and math.isfinite(top1)


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else 0
