"""When a screen is believed: as long as what it predicts ranks what is then found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import NSGAIISampler
from optuna.trial import create_trial
from problems import (
    Objective,
    constant,
    cost,
    digits,
    hypervolume,
    noise,
    predictions,
    run,
    score,
    screened,
    trade,
)

from tftas_optuna.samplers import PREDICTED, TRUSTED, WINDOW, Known, agreement, screen
from tftas_optuna.samplers.surrogate import Surrogate

WORST = (0.0, 26.0)


class Broken:
    """A surrogate that believes in itself and knows nothing, while :attr:`is_broken`.

    Attributes:
        asked: How many candidates were to be predicted each time.
        blind: How many of those it knew nothing about.
    """

    is_broken = True
    asked: list[int]

    def __init__(self, features: Any, values: Any, nearest: Any) -> None:
        self._sound = Surrogate(features, values, nearest)
        self._rng = np.random.default_rng(len(values))
        self.agreement = 1.0

    def predict(self, features: Any) -> Any:
        Broken.asked.append(len(features))
        if Broken.is_broken:
            return self._rng.random(len(features))
        return self._sound.predict(features)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Broken]]:
    Broken.asked, Broken.is_broken = [], True
    monkeypatch.setattr(screen, "Surrogate", Broken)
    yield Broken


def go_on(study: optuna.Study, n_trials: int) -> int:
    """Return how many candidates were predicted for more trials of :func:`trade`."""
    Broken.asked.clear()
    study.optimize(trade, n_trials=n_trials)
    return sum(Broken.asked)


def agreed(study: optuna.Study) -> float:
    found = agreement(study.trials[-WINDOW:])
    assert found is not None
    return found


def test_a_broken_surrogate_is_found_out_and_a_sound_one_believed(broken: type[Broken]) -> None:
    study = run(trade, screened(), 10)
    # The first time it is believed what it says of itself.
    assert go_on(study, 10) > 200
    assert agreed(study) < TRUSTED
    # Then everything is NSGA-II's, and predicted only to be compared: two objectives of ten.
    for _ in range(5):
        assert go_on(study, 10) == 2 * 10
    broken.is_broken = False
    while agreed(study) < TRUSTED:
        assert go_on(study, 10) == 2 * 10
        assert len(study.trials) < 160
    assert go_on(study, 10) > 200
    assert all(row is not None for row in predictions(study)[10:])


def test_what_is_bred_without_trust_is_nsga_iis(broken: type[Broken]) -> None:
    study = run(trade, screened(mutation_prob=0.0), 20)
    for _ in range(4):
        before = [trial.params for trial in study.trials]
        study.optimize(trade, n_trials=10)
        for child in study.trials[-10:]:
            # Without mutation every gene is that of one of two earlier trials.
            rows = np.array([[p[n] == child.params[n] for n in child.params] for p in before])
            pairs = (rows[:, None] | rows[None]).all(axis=2)
            assert pairs.any() or tuple(child.params.values()) in {
                tuple(p.values()) for p in before
            }


@pytest.mark.parametrize("objective", [noise, constant])
def test_where_nothing_can_be_learned_it_is_about_as_good_as_nsga_ii(objective: Objective) -> None:
    found, expected = 0.0, 0.0
    for seed in range(4):
        study = run(objective, screened(seed), 100)
        found += hypervolume(study, WORST)
        reference = run(objective, NSGAIISampler(population_size=10, seed=seed), 100)
        expected += hypervolume(reference, WORST)
    assert found > 0.9 * expected


def test_noise_is_screened_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    was_on: list[bool] = []
    choose = screen.Screen.choose

    def spy(self: screen.Screen, count: int) -> list[screen.Child]:
        was_on.append(self.is_on)
        return choose(self, count)

    monkeypatch.setattr(screen.Screen, "choose", spy)
    run(noise, screened(), 150)
    assert sum(was_on[-10:]) <= 3
    was_on.clear()
    run(trade, screened(), 100)
    assert sum(was_on) >= 8


@pytest.mark.parametrize(("unscreened", "expected"), [(0.2, 2), (0.5, 5), (1.0, 10), (0.01, 1)])
def test_a_share_of_every_generation_is_tried_unscreened(
    unscreened: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    plain = screen.Screen._plain

    def spy(self: screen.Screen, count: int) -> Any:
        counts.append(count)
        return plain(self, count)

    monkeypatch.setattr(screen.Screen, "_plain", spy)
    run(trade, screened(unscreened=unscreened), 40)
    assert counts == [expected] * 3


def test_the_unscreened_stand_anywhere_in_a_generation() -> None:
    # They are bred from parents, with no mutation here; the screened are of many generations.
    study = run(trade, screened(n_offspring=60), 60)
    gains = np.array([t.values[0] - 4 * t.values[1] for t in study.trials[10:]]).reshape(5, 10)
    assert len({int(row.argmin()) for row in gains}) > 1


def trial_of(predicted: list[float | None] | None, *values: float) -> optuna.trial.FrozenTrial:
    attributes = {} if predicted is None else {PREDICTED: predicted}
    return create_trial(values=list(values), system_attrs=attributes)


def test_agreement_is_that_of_the_objective_predicted_worst() -> None:
    rows = [([1.0, 4.0], 10, 1), ([2.0, 3.0], 20, 2), ([3.0, 5.0], 30, 3)]
    trials = [trial_of(list(p), *values) for p, *values in rows]
    assert agreement(trials) == pytest.approx(1 / 3)


def test_agreement_counts_predicted_trials_and_unknown_objectives_only() -> None:
    trials = [trial_of([None, 2.0], 9, 1), trial_of(None, 0, 9), trial_of([None, 3.0], 8, 2)]
    assert agreement(trials) == 1.0
    assert agreement(trials[:2]) is None and agreement([]) is None


def test_where_all_is_known_there_is_nothing_to_agree_with() -> None:
    assert agreement([trial_of([None], 1), trial_of([None], 2), trial_of([None], 3)]) is None


def test_what_is_all_known_is_screened() -> None:
    def all_known(params: Any, /) -> Known:
        x = [params[f"x{i}"] for i in range(8)]
        return Known([float(v) for v in x], {0: float(x[0]), 1: cost(x)})

    study = run(
        lambda trial: (
            float(trade(trial) and trial.params["x0"]),
            cost(list(trial.params.values())),
        ),
        screened(knowledge=all_known, n_offspring=60),
        40,
    )
    front = [trial.values for trial in study.best_trials]
    assert [3.0, 4.0] in front and [0.0, 1.0] in front


def test_infinite_values_are_ranked_behind_all_others() -> None:
    trials = [trial_of([float(i)], np.inf if i > 2 else i) for i in range(6)]
    assert agreement(trials) == pytest.approx(9 / 15)


def test_only_the_last_predictions_count(broken: type[Broken]) -> None:
    broken.is_broken = False
    study = run(trade, screened(), 10)
    go_on(study, 60)
    broken.is_broken = True
    while agreed(study) >= TRUSTED:
        go_on(study, 10)
        assert len(study.trials) < 150
    assert go_on(study, 10) == 2 * 10


def test_predictions_are_kept_with_the_trials_as_they_were() -> None:
    study = run(trade, screened(), 60)
    found = np.array(predictions(study)[40:], dtype=float)
    values = np.array([trial.values for trial in study.trials[40:]])
    # In the units of the objectives, whichever way is better.
    assert np.median(np.abs(found[:, 1] - values[:, 1])) < 1.5
    assert np.median(np.abs(found[:, 0] / values[:, 0] - 1)) < 0.25


def test_unscreened_it_is_nsga_ii() -> None:
    def best(sampler: optuna.samplers.BaseSampler) -> float:
        return run(lambda t: score(digits(t)), sampler, 150, ["maximize"]).best_value

    found = [best(screened(seed, unscreened=1.0)) for seed in range(4)]
    plain = [best(NSGAIISampler(population_size=10, seed=seed)) for seed in range(4)]
    random = [best(optuna.samplers.RandomSampler(seed=seed)) for seed in range(4)]
    # The best are parents, not the oldest or any.
    assert sum(found) > 0.97 * sum(plain) and sum(found) > 1.1 * sum(random)


def test_screened_it_beats_nsga_ii() -> None:
    found, plain = 0.0, 0.0
    for seed in range(4):
        found += hypervolume(run(trade, screened(seed, n_offspring=60), 60), WORST)
        plain += hypervolume(run(trade, NSGAIISampler(population_size=10, seed=seed), 60), WORST)
    assert found > 1.05 * plain
