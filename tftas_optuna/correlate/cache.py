"""Scores that are kept in a file, so that a run goes on where an earlier one was cut off."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna._writing import json_text, replacing
from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tftas_optuna.architecture import Architecture

_LOG = logging.getLogger("tftas_optuna")

FORMAT = "tftas-optuna/scores"
FORMAT_VERSION = 1
# Seconds of work that a killed run may lose.
_EVERY = 2.0


class ScoreCache:
    """Scores and times of indicators, stored by everything that they depend on.

    A file that was cut off or changed by hand is not trusted: its scores are computed again, with
    a warning. Where the file cannot be written, scores are kept in memory alone, with a warning.

    Args:
        path: The file; None for memory alone.

    Raises:
        UnavailableError: Another file is in its place.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._saved = time.monotonic()
        self._changed = False
        self._entries: dict[str, dict[str, Any]] = {} if path is None else _read(path)
        if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
            _LOG.warning("%s cannot be written: scores are not kept for the next time", path)
            self._path = None

    def scores(self, ground: Mapping[str, Any]) -> dict[str, list[float]]:
        """Return scores by :func:`identity`, one for each seed; more may be added.

        NaN stands for a score that is not finite.

        Args:
            ground: The indicator and all that its scores depend on, as plain data.
        """
        scores: dict[str, list[float]] = self._entry(ground)["scores"]
        return scores

    def seconds(self, ground: Mapping[str, Any]) -> dict[str, float]:
        """Return the times of one score, by machine; more may be added."""
        seconds: dict[str, float] = self._entry(ground)["seconds"]
        return seconds

    def changed(self) -> None:
        """Note that scores or times were added; write them from time to time."""
        self._changed = True
        if time.monotonic() - self._saved > _EVERY:
            self.save()

    def save(self) -> None:
        """Add what is new to the file, which is whole at any moment."""
        if self._path is None or not self._changed:
            return
        for key, theirs in _read(self._path, warn=False).items():
            ours = self._entries.setdefault(key, theirs)
            for part in ("scores", "seconds"):
                for name, value in theirs[part].items():
                    ours[part].setdefault(name, value)
        entries = list(self._entries.values())
        document = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "checksum": _checksum(entries),
            "scores": entries,
        }
        try:
            with replacing(self._path) as scratch:
                scratch.write_text(json_text(document) + "\n", encoding="utf-8")
        except OSError as error:
            raise UnavailableError(
                f"{self._path}: scores cannot be written ({error.strerror or error})"
            ) from error
        self._changed, self._saved = False, time.monotonic()

    def _entry(self, ground: Mapping[str, Any]) -> dict[str, Any]:
        key = _canonical(ground)
        if key not in self._entries:
            self._entries[key] = {"ground": dict(ground), "scores": {}, "seconds": {}}
        return self._entries[key]


def cache_name(study_name: str) -> str:
    """Return a file name for the scores of a study, with plain characters only."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", study_name)[:100].lstrip(".") + ".scores.json"


def identity(arch: Architecture) -> str:
    """Return a digest that is different for every architecture."""
    return hashlib.sha256(_canonical(arch.to_dict()).encode()).hexdigest()[:20]


def _read(path: Path, *, warn: bool = True) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _in_the_way(path) from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        if text.strip() and FORMAT not in text[:100]:
            raise _in_the_way(path) from None
        return _distrust(path, warn)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise _in_the_way(path)
    version = document.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UnavailableError(f"{path} was written by a later release; upgrade tftas-optuna")
    entries = _with_nan(document.get("scores"))
    if document.get("checksum") != _checksum(entries) or not _is_sound(entries):
        return _distrust(path, warn)
    return {_canonical(entry["ground"]): entry for entry in entries}


def _in_the_way(path: Path) -> UnavailableError:
    return UnavailableError(
        f"{path} is in the way: no scores of tftas-optuna; move it, they are kept there"
    )


def _distrust(path: Path, warn: bool) -> dict[str, dict[str, Any]]:
    if warn:
        _LOG.warning("%s is damaged: all scores are computed again", path)
    return {}


def _with_nan(entries: Any) -> Any:
    """Read null as NaN; files of earlier releases hold NaN itself."""
    for entry in entries if isinstance(entries, list) else ():
        scores = entry.get("scores") if isinstance(entry, dict) else None
        if not isinstance(scores, dict):
            continue
        for name, by_seed in scores.items():
            if isinstance(by_seed, list):
                scores[name] = [math.nan if score is None else score for score in by_seed]
    return entries


def _is_sound(entries: Any) -> bool:
    """Return whether entries have the form that they are written in; only scores may be NaN."""
    if not isinstance(entries, list):
        return False
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("ground"), dict):
            return False
        scores, seconds = entry.get("scores"), entry.get("seconds")
        if not isinstance(scores, dict) or not isinstance(seconds, dict):
            return False
        if not all(isinstance(by_seed, list) and by_seed for by_seed in scores.values()):
            return False
        times, numbers = list(seconds.values()), list(chain.from_iterable(scores.values()))
        if not all(isinstance(x, float) and not math.isinf(x) for x in times + numbers):
            return False
        if any(map(math.isnan, times)):
            return False
    return True


def _checksum(entries: Any) -> str:
    return hashlib.sha256(_canonical(entries).encode()).hexdigest()


def _canonical(data: Any) -> str:
    return json.dumps(data, sort_keys=True)
