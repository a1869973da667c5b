"""Keeps scored trials that cannot be stored in a journal file, and merges them back later."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tftas_optuna._writing import replacing
from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage.appending import stored_places
from tftas_optuna.storage.file_locks import FileLock, LockError
from tftas_optuna.storage.kinds import Kind, kind_of
from tftas_optuna.study.own import own_trials
from tftas_optuna.study.place import is_repeat, place_of
from tftas_optuna.study.record import check_continues, write_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.storage.appending import Append
    from tftas_optuna.study.settings import StudySettings

_LOG = logging.getLogger("tftas_optuna")
# Seconds; merging may take that long.
_LOCK_SECONDS = 30


def rescue(
    trials: Sequence[FrozenTrial], study_name: str, storage_name: str, settings: StudySettings
) -> Path:
    """Save trials in a journal file, in the working directory or else the temporary one.

    The file is an ordinary Optuna journal that holds one study of the same name.

    Args:
        trials: The trials, with places.
        study_name: Their study.
        storage_name: Name of its storage, see :func:`tftas_optuna.storage.storage_name`.
        settings: Its settings.

    Returns:
        The file.

    Raises:
        UnavailableError: Neither directory can be written to.
    """
    failure: OSError | None = None
    for folder in _folders():
        try:
            return _save(trials, study_name, folder / _stem(study_name, storage_name), settings)
        except OSError as error:
            failure = error
    raise UnavailableError(
        f"{len(trials)} scored trials could not be saved anywhere: {failure}"
    ) from failure


def merge_rescued(
    study: Study, storage_name: str, settings: StudySettings, append: Append
) -> None:
    """Move trials of this study from the journal files of :func:`rescue` into its storage.

    Architectures that another search has stored in the meantime are not stored again. Files with
    other settings are left alone with a warning, and so are files of other users in a directory
    that everybody may write to. If several searches begin at once, one of them merges a file.

    Args:
        study: The study.
        storage_name: Name of its storage, see :func:`tftas_optuna.storage.storage_name`.
        settings: Its settings.
        append: Appends trials to it.
    """
    stem = _stem(study.study_name, storage_name)
    paths = [path for folder in _folders() for path in sorted(folder.glob(f"{stem}*.journal"))]
    for path in dict.fromkeys(paths):
        why = _distrusted(path)
        try:
            if why is None:
                _merge(path, study, settings, append)
        except (LockError, TimeoutError) as error:
            why = str(error)
        if why is not None:
            _LOG.warning("%s is not merged: %s", path, why)


def _merge(path: Path, study: Study, settings: StudySettings, append: Append) -> None:
    lock = path.with_name(f"{path.name}.lock")
    with FileLock(lock, path, timeout=_LOCK_SECONDS):
        if not path.exists():
            return  # Another search has merged it.
        try:
            journal = JournalStorage(JournalFileBackend(str(path)))
            kept = optuna.load_study(study_name=study.study_name, storage=journal)
            check_continues(kept, settings)
        except Exception as error:
            # A damaged file must not prevent a search.
            _LOG.warning("%s is not merged: %s", path, error)
            return
        stored = stored_places(study)
        done = own_trials(study, settings, with_failed=True)
        tried = {settings.space.decode(trial.params) for trial in done}
        missing = [
            trial
            for trial in own_trials(kept, settings, with_failed=True)
            if place_of(trial) not in stored
            and (is_repeat(trial) or settings.space.decode(trial.params) not in tried)
        ]
        if missing:
            _LOG.info("merging %d trials from %s", len(missing), path)
            append(sorted(missing, key=lambda trial: place_of(trial) or ()))
        path.unlink()
        _LOG.warning("merged %d trials from %s", len(missing), path)


def _distrusted(path: Path) -> str | None:
    """Return why a file must not be merged; None if it may."""
    try:
        info, folder = path.lstat(), path.parent.stat()
        # It is nothing if another search has merged it in the meantime.
        is_journal = stat.S_ISREG(info.st_mode) and kind_of(path) in (Kind.JOURNAL, Kind.NOTHING)
    except FileNotFoundError:
        return None
    except UnavailableError as error:
        return str(error)
    if not is_journal:
        return "it is no journal"
    if sys.platform != "win32" and folder.st_mode & stat.S_IWOTH and info.st_uid != os.geteuid():
        return "it belongs to another user, where everybody may write; if you trust it, copy it"
    return None


def _folders() -> list[Path]:
    return [Path.cwd(), Path(tempfile.gettempdir())]


def _stem(study_name: str, storage_name: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", study_name)[:40]
    digest = hashlib.sha256(f"{storage_name}\n{study_name}".encode()).hexdigest()[:8]
    return f"tftas-rescued-{readable}-{digest}"


def _save(
    trials: Sequence[FrozenTrial], study_name: str, stem: Path, settings: StudySettings
) -> Path:
    # A name that nobody can guess, and that no two processes share.
    path = stem.with_name(f"{stem.name}-{secrets.token_hex(8)}.journal")
    with replacing(path) as scratch:
        journal = JournalStorage(JournalFileBackend(str(scratch)))
        study = optuna.create_study(
            storage=journal, study_name=study_name, directions=list(settings.directions)
        )
        write_settings(study, settings)
        study.add_trials(trials)
    return path
