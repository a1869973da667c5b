"""Fronts and picks of studies whose first objective is not an indicator to be maximised."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optuna
import pytest

from tftas_optuna import ArchitectureObjective, pareto_front, register_indicator
from tftas_optuna.metrics import Meters, registry
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.front import Candidate
from tftas_optuna.study.hypervolume import Hypervolume
from tftas_optuna.study.selection import best_first, cost_of, knee, spread, within
from tftas_optuna.study.settings import StudySettings

Search = Callable[..., optuna.Study]


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_indicator("roughness", lambda model, _: 1.0, direction="minimize")


def settings_of(space: AutoFormerSpace, *objectives: str) -> StudySettings:
    made = ArchitectureObjective(space, objectives=objectives).settings
    conditions = dataclasses.replace(made.conditions, img_size=32, num_classes=10)
    return dataclasses.replace(made, conditions=conditions)


def candidate(number: int, **values: float) -> Candidate:
    return Candidate(number, None, {"macs": 1, **values})  # type: ignore[arg-type]


def test_an_indicator_is_the_merit_wherever_it_stands(small_space: AutoFormerSpace) -> None:
    settings = settings_of(small_space, "n_params", "dss")
    line = [candidate(i, dss=d, n_params=n) for i, (d, n) in enumerate([(0, 1), (9, 2), (10, 9)])]
    assert [c.trial for c in best_first(line, settings)] == [2, 1, 0]
    assert knee(line, settings).trial == 1


def test_less_is_better_of_an_indicator_to_be_minimised(small_space: AutoFormerSpace) -> None:
    settings = settings_of(small_space, "roughness", "n_params")
    line = [
        candidate(i, roughness=r, n_params=n) for i, (r, n) in enumerate([(10, 1), (1, 2), (0, 9)])
    ]
    assert [c.trial for c in best_first(line, settings)] == [2, 1, 0]
    assert knee(line, settings).trial == 1


def test_without_an_indicator_the_first_cost_is_the_merit(small_space: AutoFormerSpace) -> None:
    settings = settings_of(small_space, "macs", "n_params")
    line = [candidate(0, macs=5, n_params=1), candidate(1, macs=2, n_params=2)]
    assert [c.trial for c in best_first(line, settings)] == [1, 0]


def test_an_empty_front_has_nothing_within_a_budget() -> None:
    assert within([], {"n_params": 1}) == []


def test_hypervolume_of_an_indicator_to_be_minimised(small_space: AutoFormerSpace) -> None:
    settings = settings_of(small_space, "roughness", "n_params")
    low, high = (
        arch.costs(img_size=32, num_classes=10).n_params
        for arch in (small_space.smallest(), small_space.largest())
    )
    measure = Hypervolume(settings, Meters(("n_params",), small_space, settings.target))
    # From the highest value of the set, so the worst point itself adds nothing.
    points = [(10.0, low), (4.0, low + (high - low) / 4)]
    assert measure(points) == pytest.approx((10 - 4) * 0.75)


def test_what_is_worse_than_nothing_adds_no_hypervolume(small_space: AutoFormerSpace) -> None:
    settings = settings_of(small_space, "dss", "n_params")
    low, high = (
        arch.costs(img_size=32, num_classes=10).n_params
        for arch in (small_space.smallest(), small_space.largest())
    )
    measure = Hypervolume(settings, Meters(("n_params",), small_space, settings.target))
    # A measured cost may lie beyond the space's ends, and an indicator below zero.
    assert measure([(8.0, low), (-1.0, low), (20.0, 2 * high)]) == pytest.approx(8.0)


def test_the_best_of_one_cost_is_the_least_within_its_bounds(
    run: Search, small_space: AutoFormerSpace
) -> None:
    smallest = small_space.smallest()
    least = smallest.costs(img_size=32, num_classes=10).n_params
    study = run(objectives=("n_params",), bounds={"n_params": (least + 1, None)}, start=[smallest])
    (best,) = pareto_front(study)
    others = [trial.values[0] for trial in study.trials[1:]]
    assert study.trials[0].values[0] == least and len(set(others)) > 1
    assert best.n_params == min(others)


def test_counts_are_whole_numbers(run: Search) -> None:
    (best,) = pareto_front(run(n_trials=4, objectives=("n_params",)))
    named = best.named_values()
    assert [(name, type(value)) for name, value in named.items()] == [
        ("n_params", int),
        ("macs", int),
    ]


def test_members_are_spread_in_even_steps_of_the_logarithm_of_the_cost(
    small_space: AutoFormerSpace,
) -> None:
    settings = settings_of(small_space, "dss", "n_params")
    sizes = [1, 2, 3, 4, 100, 1_000, 5_000, 9_000, 9_500, 10_000]
    front = [candidate(i, dss=i, n_params=n) for i, n in enumerate(sizes)]
    assert [c.n_params for c in spread(front, 3, settings)] == [1, 100, 10_000]
    assert [c.n_params for c in spread(front, 5, settings)] == [1, 4, 100, 1_000, 10_000]
    assert [c.n_params for c in spread(front, 2, settings)] == [1, 10_000]
    for count in range(2, 13):
        chosen = spread(front, count, settings)
        assert len({c.trial for c in chosen}) == min(count, len(front))
        assert (chosen[0], chosen[-1]) == (front[0], front[-1])
        assert chosen == sorted(chosen, key=lambda c: c.trial)


def test_members_are_spread_in_the_cost_that_is_an_objective(small_space: AutoFormerSpace) -> None:
    settings = settings_of(small_space, "roughness", "macs", "n_params")
    assert cost_of(settings) == "macs"
    assert cost_of(settings_of(small_space, "dss")) == "n_params"
    costs = [(5, 1), (1, 2), (3, 3), (2, 4)]
    front = [candidate(i, macs=m, n_params=n) for i, (m, n) in enumerate(costs)]
    # In the order of the front; of 1, 2, 3 and 5 the step in the middle is nearest to 2.
    assert [c.trial for c in spread(front, 3, settings)] == [0, 1, 3]
    same = [candidate(i, macs=0, n_params=i) for i in range(5)]
    assert len(spread(same, 3, settings)) == 3
