"""Trials that somebody else adds to a study of ours, and that stand for no architecture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from tftas_optuna.spaces import SearchSpace
from tftas_optuna.study._optuna import storage_of

# Better than anything, so that they would stand on the front.
BEST = [1e9, 1.0]


def told_without_parameters(study: optuna.Study, space: SearchSpace) -> None:
    study.tell(study.ask(), BEST)


def without_a_parameter(study: optuna.Study, space: SearchSpace) -> None:
    params, distributions = _parts(space)
    del params["embed_dim"], distributions["embed_dim"]
    study.add_trial(optuna.create_trial(params=params, distributions=distributions, values=BEST))


def beyond_the_space(study: optuna.Study, space: SearchSpace) -> None:
    params, distributions = _parts(space)
    params["depth"], distributions["depth"] = 77, CategoricalDistribution((77,))
    _store(study, optuna.create_trial(params=params, distributions=distributions, values=BEST))


def with_another_number_of_values(study: optuna.Study, space: SearchSpace) -> None:
    params, distributions = _parts(space)
    _store(study, optuna.create_trial(params=params, distributions=distributions, value=1e9))


def without_a_number(study: optuna.Study, space: SearchSpace) -> None:
    params, distributions = _parts(space)
    trial = optuna.create_trial(params=params, distributions=distributions, values=BEST)
    trial.values = [math.nan, 1.0]
    _store(study, trial)


KINDS: dict[str, Callable[[optuna.Study, SearchSpace], None]] = {
    kind.__name__: kind
    for kind in (
        told_without_parameters,
        without_a_parameter,
        beyond_the_space,
        with_another_number_of_values,
        without_a_number,
    )
}


def add_decodable(study: optuna.Study, space: SearchSpace) -> int:
    """Add a trial that stands for an architecture, and says nonsense of it."""
    params, distributions = _parts(space)
    nonsense = {"dss": "high", "n_params": None, "macs": [1], "dss_sd": math.nan}
    study.add_trial(
        optuna.create_trial(
            params=params, distributions=distributions, values=[0.5, 1e9], user_attrs=nonsense
        )
    )
    return len(study.trials) - 1


def _parts(space: SearchSpace) -> tuple[dict[str, Any], dict[str, Any]]:
    return space.encode(space.smallest()), dict(space.distributions())


def _store(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Add a trial that ``Study.add_trial`` would look at more closely."""
    storage, study_id = storage_of(study)
    storage.create_new_trial(study_id, template_trial=trial)
