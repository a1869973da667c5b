"""Accuracies of trained architectures, with the conditions of their training."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import statistics
from typing import TYPE_CHECKING, Any

from tftas_optuna.errors import TftasError, did_you_mean
from tftas_optuna.study.attributes import attributes, write_attribute

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optuna import Study

# Release 0.2.0 kept one training per trial, without key and seed.
_NAME = re.compile(r"retrained:(\d+)(?::([a-z][0-9a-f]{7}):(\d+))?")
_SHARED = re.compile(r"shared:(s[0-9a-f]{7}):(\d+)")
# The entries that must be equal for accuracies to be comparable. A digest, if there is one, takes
# the place of the name.
_CONDITIONS = (
    *("n_train", "n_val", "num_classes", "epochs", "img_size", "weights"),
    # Of shared trainings: what shares the weights.
    *("space", "trials"),
)
_CONTENTS = {"data_digest": "data", "recipe_digest": "recipe"}


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Trainings of a study's trials under equal conditions; only the seeds differ.

    Either each trial was trained by itself, or all of them in one supernet.

    Attributes:
        key: The key of the conditions, as ``--trained`` takes it; that of shared trainings begins
            with an s.
        records: For each trial number, the records of its trainings in the order of the seeds.
    """

    key: str
    records: Mapping[int, tuple[Mapping[str, Any], ...]]

    def __str__(self) -> str:
        """Describe the conditions in words."""
        return describe_conditions(next(iter(self.records.values()))[0])

    def top1(self, trial: int) -> float | None:
        """Return the top-1 accuracy of a trial in per cent, the mean over its seeds."""
        accuracies = self._accuracies(trial)
        return statistics.fmean(accuracies) if accuracies else None

    def sd(self, trial: int) -> float | None:
        """Return the standard deviation over the seeds of a trial; None for fewer than two."""
        accuracies = self._accuracies(trial)
        return statistics.stdev(accuracies) if len(accuracies) > 1 else None

    def _accuracies(self, trial: int) -> list[float]:
        return [float(record["top1"]) for record in self.records.get(trial, ())]


def record_accuracy(study: Study, trial: int, record: Mapping[str, Any]) -> str:
    """Record the accuracy of a trained architecture in its study.

    Optuna does not add user attributes to finished trials, so the study has one for each training:
    ``retrained:NUMBER:KEY:SEED``. A training with the same conditions and seed replaces the
    earlier one.

    Args:
        study: The study that the architecture comes from.
        trial: Number of its trial.
        record: ``top1`` in per cent, and the conditions of the training.

    Returns:
        The key of the conditions.
    """
    key = conditions_key(record)
    write_attribute(study, f"retrained:{trial}:{key}:{record.get('seed', 0)}", dict(record))
    return key


def record_shared(
    study: Study, results: Mapping[int, Mapping[str, float]], details: Mapping[str, Any]
) -> str:
    """Record the accuracies that members reached with the weights of one trained supernet.

    The study has one attribute for each shared training, ``shared:KEY:SEED``. A training of the
    same trials with the same conditions and seed replaces the earlier one; all others are kept.

    Args:
        study: The study that the members come from.
        results: By trial number, ``top1`` and ``top5`` in per cent and ``loss``.
        details: The conditions of the training, such as ``recipe``, ``epochs`` and ``data``;
            ``space`` if not the members alone were trained but a whole space; ``out``, the
            directory of the supernet, and ``supernet``, its digest.

    Returns:
        The key of the conditions.
    """
    # An accuracy depends on what else is trained with it.
    key = "s" + conditions_key({**details, "trials": sorted(results)})[1:]
    by_trial = {str(number): dict(results[number]) for number in sorted(results)}
    name = f"shared:{key}:{details.get('seed', 0)}"
    write_attribute(study, name, {**details, "results": by_trial})
    return key


def conditions_key(record: Mapping[str, Any]) -> str:
    """Return a short key of the conditions of a training, the same for equal conditions."""
    conditions = {name: record[name] for name in _CONDITIONS if name in record}
    for digest, name in _CONTENTS.items():
        entry = digest if record.get(digest) is not None else name
        conditions[entry] = record.get(entry)
    text = json.dumps(conditions, sort_keys=True, default=str)
    # The leading letter keeps a key from looking like a number.
    return f"t{hashlib.sha256(text.encode()).hexdigest()[:7]}"


def describe_conditions(record: Mapping[str, Any]) -> str:
    """Describe the conditions of a training in one line."""

    def named(name: str, digest_name: str) -> str:
        digest = record.get(digest_name)
        return f"{record.get(name, '?')}" + (f" ({str(digest)[:8]})" if digest else "")

    parts = [f"recipe {named('recipe', 'recipe_digest')}"]
    if "members" in record:
        whole = f"space {record['space']}, " if record.get("space") else ""
        parts.insert(0, f"one supernet of {whole}{record['members']} members")
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


def training_sets(study: Study, *, shared: bool = False) -> list[TrainingSet]:
    """Return the training sets of a study.

    They are sorted by their number of trials, then epochs, then the date of the newest training,
    in descending order.

    Args:
        study: The study.
        shared: Whether to return trainings in one supernet instead of those of single trials.
    """
    return _read_sets(attributes(study), shared)


def sets_by_key(studies: Sequence[Study], *, shared: bool = False) -> dict[str, list[TrainingSet]]:
    """Collect the training sets of several studies by the key of their conditions."""
    return _by_key([attributes(study) for study in studies], shared)


def choose_key(
    studies: Sequence[Study], trained: str | None = None, *, shared: bool = False
) -> str | None:
    """Return the key of the conditions whose accuracies are shown, the same for all studies.

    Args:
        studies: The studies.
        trained: The key to check; None, or a key of the other kind, for the conditions with the
            most trials.
        shared: Whether to choose among trainings in one supernet.

    Returns:
        The key; None if nothing was trained and no key is given.

    Raises:
        TftasError: Nothing was trained under the conditions of that key; lists the existing keys.
    """
    return _choose(studies, trained, shared)[0]


def choose_trainings(
    study: Study, trained: str | None = None, *, shared: bool = False
) -> TrainingSet | None:
    """Return the training set of a study that is shown; None if nothing was trained.

    Args:
        study: The study.
        trained: The key of the conditions; None, or a key of the other kind, for the conditions
            with the most trials.
        shared: Whether to choose among trainings in one supernet.

    Raises:
        TftasError: The study has no trainings with that key; lists the existing keys.
    """
    key, by_key = _choose([study], trained, shared)
    return None if key is None else by_key[key][0]


def accuracies(study: Study, trained: str | None = None) -> dict[int, float]:
    """Return top-1 accuracies in per cent under equal conditions, by trial number.

    Args:
        study: The study.
        trained: The key of the conditions; None for the conditions with the most trials.

    Raises:
        TftasError: The study has no trainings with that key; lists the existing keys.
    """
    chosen = choose_trainings(study, trained)
    if chosen is None:
        return {}
    return {number: top1 for number in chosen.records if (top1 := chosen.top1(number)) is not None}


def count_trials(sets: Sequence[TrainingSet]) -> str:
    """Return the number of trials in some training sets as text, such as ``"3 trials"``."""
    count = sum(len(training_set.records) for training_set in sets)
    return "1 trial" if count == 1 else f"{count} trials"


def _read_sets(stored: Mapping[str, Any], shared: bool) -> list[TrainingSet]:
    by_key: dict[str, dict[int, dict[int, Mapping[str, Any]]]] = {}
    for key, seed, number, record in (_shared if shared else _single)(stored):
        by_key.setdefault(key, {}).setdefault(number, {})[seed] = record
    sets = [
        TrainingSet(
            key,
            {n: tuple(seeds[s] for s in sorted(seeds)) for n, seeds in sorted(by_trial.items())},
        )
        for key, by_trial in by_key.items()
    ]
    return sorted(sets, key=lambda training_set: _rank([training_set]), reverse=True)


def _single(stored: Mapping[str, Any]) -> Iterator[tuple[str, int, int, Any]]:
    """Yield key, seed, trial and record of the trainings of single trials."""
    for name, record in stored.items():
        match = _NAME.fullmatch(name)
        if match is not None and _is_record(record):
            key = match[2] or conditions_key(record)
            seed = int(match[3]) if match[3] else _integer(record.get("seed"))
            yield key, seed, int(match[1]), record


def _shared(stored: Mapping[str, Any]) -> Iterator[tuple[str, int, int, Any]]:
    """Yield key, seed, trial and record of the members of shared trainings."""
    for name, training in stored.items():
        match = _SHARED.fullmatch(name)
        results = training.get("results") if isinstance(training, dict) else None
        if match is None or not isinstance(results, dict):
            continue
        details = {name: value for name, value in training.items() if name != "results"}
        for number, record in results.items():
            if str(number).isdecimal() and _is_record(record):
                members = {"members": len(results)}
                yield match[1], int(match[2]), int(number), {**record, **details, **members}


def _by_key(records: Sequence[Mapping[str, Any]], shared: bool) -> dict[str, list[TrainingSet]]:
    by_key: dict[str, list[TrainingSet]] = {}
    for stored in records:
        for training_set in _read_sets(stored, shared):
            by_key.setdefault(training_set.key, []).append(training_set)
    return by_key


def _choose(
    studies: Sequence[Study], trained: str | None, shared: bool
) -> tuple[str | None, dict[str, list[TrainingSet]]]:
    """Return the chosen key, and the training sets of its kind by their keys."""
    records = [attributes(study) for study in studies]
    by_key, others = _by_key(records, shared), _by_key(records, not shared)
    both = {**by_key, **others}
    if trained is not None and trained not in both:
        existing = "; ".join(
            f"{key} ({count_trials(both[key])}: {both[key][0]})"
            for key in (*_ranked(by_key), *_ranked(others))
        )
        raise TftasError(
            f"no trainings have the key {trained!r}{did_you_mean(trained, both, most=0)}; "
            + (f"there are {existing}" if existing else "nothing of the study was trained")
        )
    if trained in by_key:
        return trained, by_key
    return next(iter(_ranked(by_key)), None), by_key


def _ranked(by_key: Mapping[str, Sequence[TrainingSet]]) -> list[str]:
    return sorted(by_key, key=lambda key: _rank(by_key[key]), reverse=True)


def _rank(sets: Sequence[TrainingSet]) -> tuple[int, int, str, str]:
    records = [record for s in sets for by_seed in s.records.values() for record in by_seed]
    return (
        sum(len(training_set.records) for training_set in sets),
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
