"""The private name of Optuna that this room uses, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna

from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from optuna.samplers import BaseGASampler


def generation_key(sampler: BaseGASampler) -> str:
    """Return the system attribute by which a genetic sampler knows a trial's generation."""
    try:
        return sampler._get_generation_key()
    except AttributeError as error:
        raise UnavailableError(
            f"Optuna {optuna.__version__} no longer has BaseGASampler._get_generation_key;"
            " tftas-optuna was tried with Optuna 5.0: install that, or a later tftas-optuna"
        ) from error
