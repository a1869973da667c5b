from __future__ import annotations

import statistics
from collections.abc import Sequence

import optuna
import pytest

from tftas_optuna import Architecture, DSSObjective, Scorer, pareto_front
from tftas_optuna.spaces import AutoFormerSpace


@pytest.fixture(scope="module")
def scorer(small_space: AutoFormerSpace) -> Scorer:
    return Scorer(small_space, img_size=32, num_classes=10)


@pytest.mark.parametrize(
    "sampler",
    [
        optuna.samplers.NSGAIISampler(population_size=4, seed=0),
        optuna.samplers.TPESampler(seed=0, n_startup_trials=4),
        optuna.samplers.RandomSampler(seed=0),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_any_sampler_optimises_it(
    small_space: AutoFormerSpace, scorer: Scorer, sampler: optuna.samplers.BaseSampler
) -> None:
    objective = DSSObjective(small_space, scorer=scorer, bounds={"n_params": (None, 9e4)})
    study = optuna.create_study(directions=objective.directions, sampler=sampler)
    objective.annotate(study)
    study.optimize(objective, n_trials=12)
    assert all(len(t.values) == 2 and "macs" in t.user_attrs for t in study.trials)
    assert all(t.system_attrs["constraints"] == [t.values[1] / 9e4 - 1] for t in study.trials)
    front = pareto_front(study)
    assert [c.n_params for c in front] == sorted(c.n_params for c in front)
    assert [c.values["dss"] for c in front] == sorted(c.values["dss"] for c in front)


def test_one_objective_is_a_number(small_space: AutoFormerSpace, scorer: Scorer) -> None:
    objective = DSSObjective(small_space, objectives=["dss"], scorer=scorer)
    assert objective.directions == ["maximize"]
    study = optuna.create_study(directions=objective.directions)
    objective.annotate(study)
    study.optimize(objective, n_trials=5)
    assert study.best_value == max(t.value for t in study.trials)
    (best,) = pareto_front(study)
    assert best.values["dss"] == study.best_value and best.trial == study.best_trial.number


def test_any_order_and_choice_of_metrics(small_space: AutoFormerSpace, scorer: Scorer) -> None:
    objective = DSSObjective(small_space, objectives=["macs", "dss", "n_params"], scorer=scorer)
    assert objective.directions == ["minimize", "maximize", "minimize"]
    trial = optuna.trial.FixedTrial(small_space.encode(small_space.largest()))
    costs = small_space.largest().costs(img_size=32, num_classes=10)
    assert objective(trial) == (costs.macs, scorer(small_space.largest()), costs.n_params)


def test_the_spread_over_seeds_is_kept(small_space: AutoFormerSpace) -> None:
    scorer = Scorer(small_space, img_size=32, num_classes=10, n_seeds=3)
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.optimize(DSSObjective(small_space, scorer=scorer), n_trials=2)
    for trial in study.trials:
        (scores,) = scorer.by_seed([small_space.decode(trial.params)])
        assert trial.values[0] == statistics.mean(scores)
        assert trial.user_attrs["dss_sd"] == statistics.stdev(scores)


def test_an_architecture_is_scored_once(small_space: AutoFormerSpace, scorer: Scorer) -> None:
    calls = []

    class Counting(Scorer):
        def by_seed(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
            calls.extend(archs)
            return super().by_seed(archs)

    counting = Counting(small_space, img_size=32, num_classes=10)
    objective = DSSObjective(small_space, scorer=counting)
    params = small_space.encode(small_space.smallest())
    values = {
        objective(optuna.trial.FixedTrial({**params, "block_04": label}))
        for label in ("h1 r2", "h3 r4")
    }
    assert len(values) == 1 and len(calls) == 1
