"""Access to the private names of Optuna that this package uses, with a clear error if one is gone.

Optuna has no public function for the hypervolume, for the front of plain values, or for writing
into a finished trial. Its own code and optuna-dashboard use these names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import optuna

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, Trial


def compute_hypervolume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Return the hypervolume of points, shape (n, objectives); lower is better in each column."""
    return float(_function("optuna._hypervolume", "compute_hypervolume")(points, reference))


def is_front(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the undominated rows; the rows, shape (n, objectives), are distinct and sorted."""
    marks: NDArray[np.bool_] = _function("optuna.study._multi_objective", "_is_pareto_front")(
        losses, assume_unique_lexsorted=True
    )
    return marks


def front_of(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[FrozenTrial]:
    """Return the feasible, undominated trials, as ``Study.best_trials`` does.

    ``Study.best_trials`` itself copies all trials first, which takes most of its time.
    """
    module, name = "optuna.study._multi_objective", "_get_pareto_front_trials_by_trials"
    front: list[FrozenTrial] = _function(module, name)(
        trials, directions, consider_constraint=True
    )
    return front


def storage_of(study: Study) -> tuple[BaseStorage, int]:
    """Return the storage of a study and the id of the study in it."""
    return _attribute(study, "_storage"), _attribute(study, "_study_id")


def trial_id(trial: Trial) -> int:
    """Return the id of a running trial in its storage."""
    stored_id: int = _attribute(trial, "_trial_id")
    return stored_id


def _function(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _gone(f"{module}.{name}") from error


def _attribute(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise _gone(f"{type(owner).__name__}.{name}") from error


def _gone(name: str) -> UnavailableError:
    return UnavailableError(
        f"Optuna {optuna.__version__} no longer has {name}; tftas-optuna was tried with Optuna"
        " 5.0: install that, or a later tftas-optuna"
    )
