"""What a screen breeds from, and what it knows of what was tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial
from problems import CHOICES, DIRECTIONS, N_PARAMS, cost, predictions, run, score, screened, trade

from tftas_optuna.samplers import Known, screen
from tftas_optuna.samplers.archive import Archive
from tftas_optuna.samplers.problem import Problem
from tftas_optuna.samplers.screen import Breeding, Screen
from tftas_optuna.samplers.surrogate import Surrogate

DISTRIBUTIONS = {f"x{i}": CategoricalDistribution(CHOICES) for i in range(N_PARAMS)}


def tried(count: int, **constraints: float) -> list[FrozenTrial]:
    rng = np.random.default_rng(0)
    rows = rng.integers(4, size=(count, N_PARAMS)).tolist()
    return [
        create_trial(
            params={f"x{i}": v for i, v in enumerate(x)},
            distributions=DISTRIBUTIONS,
            values=[score(x), cost(x)],
            constraints={name: limit - sum(x) for name, limit in constraints.items()},
        )
        for x in rows
    ]


def screen_of(trials: list[FrozenTrial], agreement: float | None = 1.0, **breeding: Any) -> Screen:
    archive = Archive(Problem(DISTRIBUTIONS, DIRECTIONS))
    archive.add(trials)
    sizes: dict[str, Any] = {"population_size": 10, "n_offspring": 20}
    return Screen(archive, Breeding(**{**sizes, **breeding}), agreement, np.random.default_rng(0))


def distances(screen: Screen, trials: list[FrozenTrial], count: int) -> list[int]:
    """In how many parameters each child differs from the trial nearest to it."""
    before = np.array([list(trial.params.values()) for trial in trials])
    children = np.array([list(child.params.values()) for child in screen.choose(count)])
    found: list[int] = (children[:, None] != before).sum(axis=2).min(axis=1).tolist()
    return found


def test_without_crossover_a_child_is_a_parent_with_mutations() -> None:
    trials = tried(30)
    alone = distances(screen_of(trials, -1.0, crossover_prob=0.0), trials, 60)
    crossed = distances(screen_of(trials, -1.0, crossover_prob=1.0), trials, 60)
    assert np.mean(alone) < 1.8 < np.mean(crossed)


def test_the_better_parent_of_two_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    crossed = Screen._crossed

    def spy(self: Screen, first: Any, second: Any) -> Any:
        seen.extend((first, second))
        return crossed(self, first, second)

    monkeypatch.setattr(Screen, "_crossed", spy)
    made = screen_of(tried(60), -1.0)
    made.choose(100)
    best = made._tried.rows[made._parents]
    taken = [int((best == row).all(axis=1).argmax()) for part in seen for row in part]
    assert np.mean(np.array(taken) < 5) == pytest.approx(0.75, abs=0.08)


def test_only_what_meets_constraints_is_on_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    fronts: list[Any] = []
    most_added = screen.most_added

    def spy(front: Any, *others: Any) -> Any:
        fronts.append(front)
        return most_added(front, *others)

    monkeypatch.setattr(screen, "most_added", spy)
    trials = tried(60, least=12.0)
    screen_of(trials).choose(10)
    n_feasible = sum(trial.constraints["least"] <= 0 for trial in trials)
    assert 0 < n_feasible < 60 and [len(front) for front in fronts] == [n_feasible]
    # Costs beside signs: a cost is one more than the sum.
    assert fronts[0][:, 1].min() >= 13


def test_constraints_that_are_known_are_not_learned() -> None:
    def knowledge(params: Mapping[str, Any], /) -> Known:
        return Known([float(v) for v in params.values()], {}, {"known": -1.0})

    archive = Archive(Problem(DISTRIBUTIONS, DIRECTIONS, knowledge))
    archive.add(tried(12, known=20.0, other=5.0))
    assert archive.table().violations.shape == (12, 1)
    assert archive.table().violations[:, 0].tolist() == [
        trial.constraints["other"] for trial in tried(12, other=5.0)
    ]
    assert (archive.table().penalties > 0).any()


@pytest.mark.parametrize("own", [0.9, -0.5])
def test_before_any_prediction_a_surrogate_judges_itself(
    own: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Modest(Surrogate):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.agreement = own

    monkeypatch.setattr(screen, "Surrogate", Modest)
    assert screen_of(tried(30), None).is_on == (own > 0)
    # Later on what counts is what was predicted.
    assert screen_of(tried(30), 0.9).is_on and not screen_of(tried(30), 0.1).is_on


def test_of_few_trials_nothing_is_learned() -> None:
    assert not screen_of(tried(9)).is_on and screen_of(tried(10)).is_on
    assert all(child.predicted is None for child in screen_of(tried(9)).choose(5))


def test_minus_zero_is_zero() -> None:
    def knowledge(params: Mapping[str, Any], /) -> Known:
        return Known([params["x0"] * (-1.0 if params["x1"] > 1 else 1.0)])

    problem = Problem(DISTRIBUTIONS, DIRECTIONS, knowledge)
    rows = np.zeros((2, N_PARAMS))
    rows[1, 1] = 3
    one, other = problem.describe(rows).keys()
    assert one == other


def test_what_differs_by_rounding_is_the_same() -> None:
    def knowledge(params: Mapping[str, Any], /) -> Known:
        return Known([0.1 + 0.2 if params["x0"] else 0.3])

    problem = Problem(DISTRIBUTIONS, DIRECTIONS, knowledge)
    rows = np.zeros((2, N_PARAMS))
    rows[1, 0] = 1
    one, other = problem.describe(rows).keys()
    assert one == other


def test_a_generation_that_grows_asks_for_a_quarter_more(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    choose = Screen.choose

    def spy(self: Screen, count: int) -> Any:
        counts.append(count)
        return choose(self, count)

    monkeypatch.setattr(Screen, "choose", spy)
    study = run(trade, screened(), 10)
    trials = [study.ask(DISTRIBUTIONS) for _ in range(16)]
    assert counts == [10, 3, 3]
    assert len({tuple(trial.params.values()) for trial in trials}) == 16
    for trial in trials:
        study.tell(trial, (score(list(trial.params.values())), 1.0))
    study.optimize(trade, n_trials=1)
    assert counts[3:] == [10] and predictions(study)[-1] is not None


def test_known_constraints_are_kept_by_the_unscreened_too() -> None:
    def knowledge(params: Mapping[str, Any], /) -> Known:
        x = list(params.values())
        return Known([float(v == c) for v in x for c in CHOICES], {}, {"sum": sum(x) - 12.0})

    archive = Archive(Problem(DISTRIBUTIONS, DIRECTIONS, knowledge))
    archive.add(tried(40))
    made = Screen(archive, Breeding(), -1.0, np.random.default_rng(0))
    assert all(sum(child.params.values()) <= 12 for child in made.choose(20))


def test_numbers_are_moved_by_little() -> None:
    distributions = {name: FloatDistribution(0.0, 1.0) for name in "ab"}
    archive = Archive(Problem(distributions, ["minimize"]))
    made = Screen(archive, Breeding(mutation_prob=0.5), None, np.random.default_rng(0))
    moved = np.abs(made._varied(np.full((5, 2), 0.5), 4000) - 0.5)
    # Of those that are only drawn anew a fifth would stay as near.
    assert np.mean(moved[moved > 1e-9] < 0.1) > 0.3
