"""The private names of Optuna that samplers use, with an error if a name no longer exists."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import optuna

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from optuna import Study
    from optuna.samplers import BaseGASampler
    from optuna.trial import FrozenTrial


def generation_key(sampler: BaseGASampler) -> str:
    """Return the system attribute in which a genetic sampler stores a trial's generation."""
    try:
        return sampler._get_generation_key()
    except AttributeError as error:
        raise _missing_name("BaseGASampler._get_generation_key") from error


def is_front(losses: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark the undominated rows; the rows, shape (n, objectives), are distinct and sorted."""
    module, name = "optuna.study._multi_objective", "_is_pareto_front"
    try:
        mark: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _missing_name(f"{module}.{name}") from error
    marks: NDArray[np.bool_] = mark(losses, assume_unique_lexsorted=True)
    return marks


def set_attribute(study: Study, trial: FrozenTrial, key: str, value: Any) -> None:
    """Set a system attribute of a running trial, as Optuna's genetic samplers do."""
    try:
        study._storage.set_trial_system_attr(trial._trial_id, key, value)
    except AttributeError as error:
        raise _missing_name("Study._storage or FrozenTrial._trial_id") from error


def _missing_name(name: str) -> UnavailableError:
    return UnavailableError(
        f"Optuna {optuna.__version__} no longer has {name}; tftas-optuna was tried with Optuna"
        " 5.0: install that, or a later tftas-optuna"
    )
