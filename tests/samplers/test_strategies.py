"""Samplers asked for whole generations."""

from __future__ import annotations

from itertools import islice
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import NSGAIISampler, QMCSampler, RandomSampler
from optuna.trial import FrozenTrial
from problems import CHOICES, N_PARAMS, run, screened, trade

from tftas_optuna.samplers import Known, make_strategy
from tftas_optuna.samplers._optuna import generation_key
from tftas_optuna.samplers.screen import ScreenedStrategy

DISTRIBUTIONS = {f"x{i}": CategoricalDistribution(CHOICES) for i in range(N_PARAMS)}


@pytest.fixture(scope="module")
def trials() -> list[FrozenTrial]:
    return run(trade, RandomSampler(seed=0), 40).trials


def strategy_of(sampler: Any, **kwargs: Any) -> Any:
    return make_strategy(sampler, 8, ["maximize", "minimize"], DISTRIBUTIONS, **kwargs)


def test_parents_are_the_best_not_the_oldest(trials: list[FrozenTrial]) -> None:
    def dominates(one: FrozenTrial, other: FrozenTrial) -> bool:
        (score, cost), (its_score, its_cost) = one.values, other.values
        return score >= its_score and cost <= its_cost and one.values != other.values

    strategy = strategy_of("nsgaii")
    parents: list[FrozenTrial] = []
    for generation in range(5):
        new = trials[8 * generation : 8 * (generation + 1)]
        pool = [*parents, *new]
        strategy.learn(new)
        children = strategy.generation(seed=0, size=8)
        parents = list(strategy._parents)
        kept = {trial.number for trial in parents}
        assert len(parents) == 8 and kept <= {trial.number for trial in pool}
        excluded = [trial for trial in pool if trial.number not in kept]
        assert not any(dominates(one, other) for one in excluded for other in parents)
        # Every parameter of a child is one of its parents', but for few that mutate.
        child = next(children).params
        inherited = [any(p.params[name] == child[name] for p in parents) for name in child]
        assert sum(inherited) >= len(child) - 2
    assert {trial.number for trial in parents} != set(range(8))


@pytest.mark.parametrize("sampler", ["screened-nsgaii", "nsgaii", "nsgaiii", "random"])
def test_a_generation_depends_on_its_seed_and_on_the_trials(
    sampler: str, trials: list[FrozenTrial]
) -> None:
    def children(seed: int) -> list[dict[str, Any]]:
        strategy = strategy_of(sampler)
        strategy.learn(trials)
        generation = strategy.generation(seed, 8)
        # More than its size where some are of no use.
        return [child.params for child in islice(generation, 12)]

    first, again, other = children(1), children(1), children(2)
    assert first == again != other
    assert all(params.keys() == DISTRIBUTIONS.keys() for params in first)


def test_generations_that_are_not_asked_cost_nothing(trials: list[FrozenTrial]) -> None:
    n_asked = 0

    def knowledge(params: Any, /) -> Known:
        nonlocal n_asked
        n_asked += 1
        return Known([float(value) for value in params.values()])

    strategy = strategy_of("screened-nsgaii", knowledge=knowledge)
    before = n_asked
    strategy.learn(trials)
    strategy.generation(0, 8)
    assert n_asked == before
    assert next(strategy.generation(1, 8)).predicted is not None and n_asked > before


def test_where_all_was_tried_children_are_drawn_again() -> None:
    one = {"x": CategoricalDistribution((0, 1))}
    strategy = make_strategy("screened-nsgaii", 8, ["minimize"], one)
    strategy.learn(
        optuna.create_trial(params={"x": x}, distributions=one, values=[x]) for x in (0, 1)
    )
    children = list(islice(strategy.generation(0, 8), 20))
    assert {child.params["x"] for child in children} == {0, 1}
    assert all(child.labels == {} for child in children)


def test_a_users_sampler_sees_all_trials_and_none_that_still_runs(
    trials: list[FrozenTrial],
) -> None:
    seen: list[list[str]] = []

    class Spy(RandomSampler):
        def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
            seen.append([t.state.name for t in study.trials if t.number != trial.number])

    strategy = strategy_of(Spy(seed=0))
    for part in (trials[:8], trials[8:16]):
        strategy.learn(part)
        children = strategy.generation(0, 8)
        assert len(list(islice(children, 2))) == 2
        children.close()
    assert seen[0] == ["COMPLETE"] * 8 and seen[1] == ["COMPLETE"] * 8 + ["RUNNING"]
    assert seen[2] == ["COMPLETE"] * 8 + ["FAIL"] * 2 + ["COMPLETE"] * 8


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_label_of_a_generation_is_that_of_the_sampler() -> None:
    assert ScreenedStrategy.label == generation_key(screened())
    assert strategy_of("nsgaii").label == strategy_of(NSGAIISampler()).label
    assert strategy_of("nsgaiii").label == "NSGAIIISampler:generation"
    assert strategy_of(screened()).label == ScreenedStrategy.label
    assert strategy_of("tpe").label is None and strategy_of(QMCSampler(seed=0)).label is None
