"""Run in the root of the registry: python -m pytest package/samplers/screened_nsgaii/tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import mean
from typing import Any

import optuna
import optunahub
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase

package = optunahub.load_local_module("samplers/screened_nsgaii", registry_root="package/")
DIRECTIONS = ["minimize", "minimize"]
PREDICTED = "ScreenedNSGAIISampler:predicted"


# RelativeSamplerTestCase expects relative parameters from the second trial on. As in Optuna's
# NSGA-II, they begin with the second generation.
class TestScreenedNSGAIISampler(BasicSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        # Small generations, so that children are screened within the few trials of a test.
        return lambda: package.ScreenedNSGAIISampler(population_size=5, n_offspring=20)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    x = [trial.suggest_float(f"x{i}", -5, 5) for i in range(6)]
    return sum(v**2 for v in x), sum((v - 2) ** 2 for v in x)


def run(sampler: BaseSampler, n_trials: int) -> optuna.Study:
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    study.optimize(objective, n_trials=n_trials)
    return study


def test_the_same_seed_gives_the_same_study() -> None:
    one, same, other = (run(package.ScreenedNSGAIISampler(seed=s), 45).trials for s in (0, 0, 1))
    assert [t.params for t in one] == [t.params for t in same] != [t.params for t in other]
    assert all(PREDICTED in trial.system_attrs for trial in one[20:])


def test_relative_parameters_are_plain_values_of_their_distributions() -> None:
    space = {
        "float": FloatDistribution(-1.0, 1.0),
        "log": FloatDistribution(1e-7, 1.0, log=True),
        "steps": FloatDistribution(-10, 10, step=0.5),
        "int": IntDistribution(3, 9, step=2),
        "log_int": IntDistribution(1, 100, log=True),
        "choice": CategoricalDistribution((-1, "a", None)),
    }
    sampler = package.ScreenedNSGAIISampler(population_size=10, n_offspring=20, seed=0)
    study = optuna.create_study(sampler=sampler)
    for _ in range(40):
        trial = study.ask(space)
        study.tell(trial, trial.params["float"] + trial.params["int"])
    for params in (trial.params for trial in study.trials[10:]):
        for name, distribution in space.items():
            assert distribution._contains(distribution.to_internal_repr(params[name]))
        assert [type(params[name]) for name in space][:5] == [float, float, float, int, int]


def test_the_front_is_closer_than_that_of_nsgaii() -> None:
    def distance(study: optuna.Study) -> float:
        """Return the mean squared distance from the true front, where all parameters agree."""
        found = [list(trial.params.values()) for trial in study.best_trials]
        return mean(sum((v - mean(x)) ** 2 for v in x) for x in found)

    screened = run(package.ScreenedNSGAIISampler(seed=0), 100)
    plain = run(optuna.samplers.NSGAIISampler(population_size=20, seed=0), 100)
    assert distance(screened) < distance(plain) / 4


def test_an_objective_that_is_known_is_not_predicted() -> None:
    def knowledge(params: Mapping[str, Any]) -> Any:
        x = list(params.values())
        return package.Known(x, objectives={0: sum(v**2 for v in x)})

    study = run(package.ScreenedNSGAIISampler(knowledge=knowledge, seed=0), 25)
    first, second = study.trials[-1].system_attrs[PREDICTED]
    assert first is None and isinstance(second, float)
