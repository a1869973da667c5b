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


def domination_ranks(
    losses: NDArray[np.float64], penalties: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """Return the domination ranks of candidates, from 0; those with a penalty come last.

    Args:
        losses: Objectives to minimise, shape (candidates, objectives).
        penalties: Sums of constraint violations, shape (candidates,).
        count: Number of best candidates to rank; all others share the last rank.
    """
    module, name = "optuna.study._multi_objective", "_fast_non_domination_rank"
    try:
        rank: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _missing_name(f"{module}.{name}") from error
    ranks: NDArray[np.int64] = rank(losses, penalty=penalties, n_below=count)
    return ranks


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
