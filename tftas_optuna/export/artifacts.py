"""Files and drawings of trials, where optuna-dashboard shows them: as artifacts.

Optuna attaches artifacts to running trials only. Those of finished ones stand in the study, under
names that optuna-dashboard reads for them.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.exceptions import StorageInternalError

from tftas_optuna._writing import replacing
from tftas_optuna.errors import UnavailableError
from tftas_optuna.export.documents import as_yaml
from tftas_optuna.export.picture import as_svg
from tftas_optuna.study._optuna import storage_of
from tftas_optuna.study.record import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.study.front import Candidate

# What each ending is served as: YAML as text, which a browser shows.
_TYPES = {".yaml": "text/plain", ".svg": "image/svg+xml"}
_NAMESPACE = uuid.UUID("0b0c51f1-3f0a-4a5e-9a43-6a3f3d9c2d54")


def keep_artifacts(study: Study, candidates: Iterable[Candidate], directory: Path) -> int:
    """Keep a document and a drawing of each architecture as artifacts of its trial.

    What is there already stays as it is, unless it would say something else by now; what somebody
    has deleted in optuna-dashboard is not brought back.

    Args:
        study: The study.
        candidates: Architectures of it.
        directory: The artifact store, a directory that exists.

    Returns:
        How many were written.

    Raises:
        UnavailableError: The directory or the study cannot be written to.
    """
    check_store(directory)
    settings = read_settings(study)
    storage, study_id = storage_of(study)
    trials = study.get_trials(deepcopy=False)
    n_written = 0
    try:
        known = storage.get_study_system_attrs(study_id)
        for candidate in candidates:
            trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, candidate.trial)
            texts = {
                ".yaml": as_yaml(candidate, settings, study.study_name),
                ".svg": as_svg(candidate),
            }
            for ending, text in texts.items():
                if text is None:
                    continue
                # Nothing in it comes from a file or from a name.
                name = f"trial{candidate.trial:05d}{ending}"
                artifact = _identifier(trials[candidate.trial], trial_id, name)
                key = f"dashboard:artifacts:{trial_id}:{artifact}"
                if known.get(key) == "null":
                    continue
                n_written += _write(directory / artifact, text)
                if key not in known:
                    meta = {
                        "artifact_id": artifact,
                        "filename": name,
                        "mimetype": _TYPES[ending],
                        "encoding": None,
                    }
                    storage.set_study_system_attr(study_id, key, json.dumps(meta))
    except OSError as error:
        raise UnavailableError(
            f"{error.filename or directory}: cannot be written ({error.strerror})"
        ) from error
    except StorageInternalError as error:
        raise UnavailableError(
            f"study {study.study_name!r} cannot be written to, and artifacts are told there;"
            " leave out --artifacts"
        ) from error
    return n_written


def check_store(directory: Path) -> None:
    """Check that a directory can be an artifact store.

    Raises:
        UnavailableError: It does not exist, or is not writable.
    """
    if not directory.is_dir():
        what = "is no directory" if directory.exists() else "does not exist"
        raise UnavailableError(f"{directory} {what}; give a directory for artifacts that exists")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UnavailableError(f"{directory} is not writable; give another one for artifacts")


def _identifier(trial: FrozenTrial, trial_id: int, name: str) -> str:
    """Make an identifier that is the same every time, and of no other trial in any storage."""
    return str(uuid.uuid5(_NAMESPACE, f"{trial_id} {trial.datetime_start} {name}"))


def _write(path: Path, text: str) -> bool:
    data = text.encode()
    if path.is_file() and path.read_bytes() == data:
        return False
    with replacing(path) as scratch:
        scratch.write_bytes(data)
    return True
