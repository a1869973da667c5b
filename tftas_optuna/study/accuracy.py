"""Accuracies of trained architectures, written beside the scores of their trials."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tftas_optuna.study._optuna import storage_of

if TYPE_CHECKING:
    from optuna import Study

_KEY = "retrained:"
_NOTE = "**Retrained:**"


def record_accuracy(study: Study, trial: int, record: dict[str, Any]) -> None:
    """Record what a trained architecture reaches.

    Finished trials take no more user attributes, so the study holds one for each retrained
    trial: ``retrained:NUMBER``. The trial's note in optuna-dashboard says the same; what else
    is written in it stays.

    Args:
        study: The study that the architecture comes from.
        trial: Number of its trial.
        record: ``top1`` in per cent, and whatever else tells how it was trained; a later
            training of the trial replaces it.
    """
    from optuna_dashboard import get_note, save_note

    study.set_user_attr(f"{_KEY}{trial}", record)
    storage, study_id = storage_of(study)
    # optuna-dashboard asks for a running trial, and looks at these three attributes of it.
    running: Any = SimpleNamespace(
        storage=storage,
        study=SimpleNamespace(_study_id=study_id),
        _trial_id=storage.get_trial_id_from_study_id_trial_number(study_id, trial),
    )
    others = [line for line in get_note(running).splitlines() if not line.startswith(_NOTE)]
    facts = ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in record.items()
        if name != "top1"
    )
    save_note(running, "\n".join([*others, f"{_NOTE} top-1 {record['top1']:.2f} % ({facts})"]))


def accuracies(study: Study) -> dict[int, float]:
    """Return the top-1 accuracies, in per cent, of the trials that were retrained."""
    return {
        int(name.removeprefix(_KEY)): float(record["top1"])
        for name, record in study.user_attrs.items()
        if name.startswith(_KEY)
    }
