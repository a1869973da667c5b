"""The sampler in anybody's study: any parameters, objectives, constraints and storages."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from problems import (
    CHOICES,
    DIRECTIONS,
    N_PARAMS,
    cost,
    digits,
    hypervolume,
    predictions,
    run,
    score,
    screened,
    trade,
    values_of,
)

from tftas_optuna import (
    ArchitectureObjective,
    Scorer,
    ScreenedNSGAIISampler,
    register_indicator,
)
from tftas_optuna.metrics import registry
from tftas_optuna.samplers import PREDICTED, Known
from tftas_optuna.samplers.archive import Archive
from tftas_optuna.samplers.problem import Problem
from tftas_optuna.spaces import AutoFormerSpace

LABEL = "ScreenedNSGAIISampler:generation"


def of_trade(params: Mapping[str, Any], /) -> Known:
    """What is known of :func:`trade`: the cost, and that it has to be below a limit."""
    x = [params[f"x{i}"] for i in range(N_PARAMS)]
    return Known(
        [float(v == c) for v in x for c in CHOICES[1:]], {1: cost(x)}, {"cost": cost(x) - 13}
    )


class Spy:
    """Knowledge that counts what it is asked."""

    def __init__(self) -> None:
        self.n_asked = 0

    def __call__(self, params: Mapping[str, Any], /) -> Known:
        self.n_asked += 1
        return of_trade(params)


def test_the_same_seed_gives_the_same_study() -> None:
    studies = [run(trade, screened(seed), 35) for seed in (3, 3, 4)]
    first, second, other = [values_of(study.trials) for study in studies]
    assert first == second != other
    assert predictions(studies[0]) == predictions(studies[1])


def test_generations_have_their_size_and_all_but_the_first_are_predicted() -> None:
    study = run(trade, screened(), 35)
    assert [t.system_attrs[LABEL] for t in study.trials] == [i // 10 for i in range(35)]
    found = predictions(study)
    assert found[:10] == [None] * 10
    assert all(row is not None and len(row) == 2 for row in found[10:])
    assert all(isinstance(value, float) for row in found[10:] for value in row or ())


def test_without_a_seed_two_studies_differ() -> None:
    one, other = (run(trade, ScreenedNSGAIISampler(population_size=10), 20) for _ in range(2))
    assert [t.params for t in one.trials[10:]] != [t.params for t in other.trials[10:]]


@pytest.mark.parametrize("batch", [1, 7, 25])
def test_it_is_asked_and_told_in_batches(batch: int) -> None:
    study = optuna.create_study(directions=DIRECTIONS, sampler=screened())
    while len(study.trials) < 50:
        trials = [study.ask() for _ in range(batch)]
        # Optuna suggests when parameters are asked for, and all of a batch before any is told.
        values = [trade(trial) for trial in trials]
        for trial, found in zip(trials, values, strict=True):
            study.tell(trial, found)
    tried = [tuple(trial.params.values()) for trial in study.trials[25:]]
    assert len(set(tried)) == len(tried)
    assert sum(row is not None for row in predictions(study)) >= 20


def test_one_by_one_is_as_optimize() -> None:
    study = optuna.create_study(directions=DIRECTIONS, sampler=screened())
    for _ in range(25):
        trial = study.ask()
        study.tell(trial, trade(trial))
    assert values_of(study.trials) == values_of(run(trade, screened(), 25).trials)


def test_a_study_on_sqlite_is_the_study_in_memory(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    sampler = screened(population_size=5)
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler, storage=storage)
    study.optimize(trade, n_trials=12)
    assert predictions(study)[-1] is not None
    expected = run(trade, screened(population_size=5), 12)
    assert values_of(study.trials) == values_of(expected.trials)
    assert predictions(study) == predictions(expected)


def test_another_sampler_goes_on_with_a_stored_study(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="s", directions=DIRECTIONS, storage=storage)
    study.add_trials(run(trade, screened(), 15).trials)
    study = optuna.load_study(study_name="s", sampler=screened(1), storage=storage)
    study.optimize(trade, n_trials=5)
    assert [t.system_attrs[LABEL] for t in study.trials] == [i // 10 for i in range(20)]
    assert all(row is not None for row in predictions(study)[10:])


def test_two_that_take_turns_end_a_generation_together() -> None:
    first = optuna.create_study(directions=DIRECTIONS, sampler=screened())
    second = optuna.load_study(
        study_name=first.study_name, sampler=screened(1), storage=first._storage
    )
    for _ in range(20):
        first.optimize(trade, n_trials=1)
        second.optimize(trade, n_trials=1)
    assert [t.system_attrs[LABEL] for t in first.trials] == [i // 10 for i in range(40)]


def test_two_threads_share_it() -> None:
    def slow(trial: Trial) -> tuple[float, float]:
        found = trade(trial)
        time.sleep(0.001)
        return found

    study = run(slow, screened(), 50, n_jobs=2)
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 50
    tried = [tuple(trial.params.values()) for trial in study.trials[12:]]
    assert len(set(tried)) == len(tried)
    assert sum(row is not None for row in predictions(study)) >= 35


def test_pickled_it_goes_on() -> None:
    sampler = screened()
    study = run(trade, sampler, 14)
    study.sampler = pickle.loads(pickle.dumps(sampler))
    study.optimize(trade, n_trials=16)
    assert all(row is not None for row in predictions(study)[10:])
    assert len({tuple(trial.params.values()) for trial in study.trials[10:]}) == 20


def test_pickled_between_generations_it_goes_on_to_the_same_study() -> None:
    sampler = screened()
    study = run(trade, sampler, 20)
    study.sampler = pickle.loads(pickle.dumps(sampler))
    study.optimize(trade, n_trials=10)
    assert values_of(study.trials) == values_of(run(trade, screened(), 30).trials)


def test_pickled_with_what_it_knows_it_goes_on(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_indicator("width", lambda model, _: float(model.num_features))
    scorer = Scorer(small_space, indicator="width", img_size=32, num_classes=10)
    objective = ArchitectureObjective(
        small_space, objectives=("n_params", "macs", "width"), scorer=scorer
    )
    sampler = screened(knowledge=objective.knowledge)
    study = run(objective, sampler, 12, objective.directions)
    study.sampler = pickle.loads(pickle.dumps(sampler))
    study.optimize(objective, n_trials=12)
    whole = run(objective, screened(knowledge=objective.knowledge), 20, objective.directions)
    assert values_of(study.trials[:12]) == values_of(whole.trials[:12])
    found = predictions(study)[10:]
    assert all(row is not None and row[:2] == [None, None] for row in found)


def test_with_one_objective_the_best_is_found() -> None:
    studies = [
        run(lambda trial: score(digits(trial)), screened(seed), 120, ["maximize"])
        for seed in range(4)
    ]
    # Of some seeds the last gene is still missing.
    best = score([3] * N_PARAMS)
    assert sum(study.best_value for study in studies) > 3.9 * best
    assert max(study.best_value for study in studies) == best
    study = studies[0]
    assert [len(row) for row in predictions(study) if row is not None] == [1] * 110


def test_with_three_objectives_none_is_forgotten() -> None:
    def three(trial: Trial) -> tuple[float, float, float]:
        x = digits(trial)
        return score(x), cost(x), float(sum(v % 2 for v in x))

    study = run(three, screened(), 60, [*DIRECTIONS, "minimize"])
    assert all(len(row) == 3 for row in predictions(study) if row is not None)
    assert min(t.values[2] for t in study.trials[30:]) <= 1
    assert max(t.values[0] for t in study.trials) > 60


def constrained(trial: Trial) -> tuple[float, float]:
    x = digits(trial)
    trial.set_constraint("rare", float(sum(x[:4]) - 3))
    return score(x), cost(x)


def n_feasible(trials: list[optuna.trial.FrozenTrial], name: str) -> int:
    return sum(trial.constraints[name] <= 0 for trial in trials)


def test_constraints_are_learned() -> None:
    study = run(constrained, screened(), 60)
    assert n_feasible(study.trials[:20], "rare") < 8
    assert n_feasible(study.trials[40:], "rare") >= 15


def test_constraints_that_some_trials_lack_are_kept_there() -> None:
    study = run(trade, screened(), 10)
    study.optimize(constrained, n_trials=40)
    assert n_feasible(study.trials[30:], "rare") >= 10


def test_what_is_known_is_not_predicted() -> None:
    study = run(trade, screened(knowledge=of_trade), 30)
    found = predictions(study)[10:]
    assert all(row is not None and row[0] is not None and row[1] is None for row in found)


def test_what_is_known_is_asked_of_candidates() -> None:
    spy = Spy()
    run(trade, screened(knowledge=spy), 20)
    # Of twenty for each of the eight that are screened.
    assert spy.n_asked > 150


def test_constraints_that_are_known_are_kept_from_the_first_screen() -> None:
    # No trial says that it breaks them.
    study = run(trade, screened(knowledge=of_trade), 40)
    over = [trial.values[1] > 13 for trial in study.trials]
    assert sum(over[:10]) >= 3 and sum(over[10:]) == 0


def test_candidates_with_the_same_features_are_the_same() -> None:
    def half(params: Mapping[str, Any], /) -> Known:
        return Known([float(params[f"x{i}"] == c) for i in range(4) for c in CHOICES[1:]])

    study = run(trade, screened(knowledge=half), 60)
    tried = [tuple(t.params[f"x{i}"] for i in range(4)) for t in study.trials]
    assert len(set(tried[10:])) == 50 and not set(tried[10:]) & set(tried[:10])


def n_over(trials: list[optuna.trial.FrozenTrial]) -> int:
    return len(trials) - n_feasible(trials, "n_params_max")


def test_an_objective_of_architectures_is_known(small_space: AutoFormerSpace) -> None:
    objective = ArchitectureObjective(
        small_space, objectives=("macs", "n_params"), bounds={"n_params": (None, 1e5)}
    )
    study = run(objective, screened(knowledge=objective.knowledge), 40, objective.directions)
    # Of what NSGA-II breeds some are over a bound that so few meet.
    assert n_over(study.trials[:10]) > 5 and n_over(study.trials[10:]) <= 3
    assert all(row == [None, None] for row in predictions(study)[10:])
    archs = [small_space.decode(trial.params) for trial in study.trials]
    assert len(set(archs[10:])) == 30


@pytest.mark.parametrize("bad", [math.inf, -math.inf])
def test_infinite_values_are_no_hindrance(bad: float, recwarn: pytest.WarningsRecorder) -> None:
    def sometimes(trial: Trial) -> tuple[float, float]:
        found = trade(trial)
        return (bad if trial.params["x0"] == 3 else found[0]), found[1]

    study = run(sometimes, screened(), 50)
    found = [row for row in predictions(study) if row is not None]
    assert len(found) == 40 and np.isfinite(np.array(found, dtype=float)).all()
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_values_that_are_all_infinite_are_no_hindrance() -> None:
    study = run(lambda trial: (math.inf, trade(trial)[1]), screened(), 30)
    assert len(study.trials) == 30


def mixed(trial: Trial) -> tuple[float, float]:
    kind = trial.suggest_categorical("kind", ("a", None, True))
    x = trial.suggest_float("x", -2.0, 2.0)
    rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
    width = trial.suggest_int("width", 8, 512, log=True)
    count = trial.suggest_int("count", 1, 9, step=2)
    share = trial.suggest_float("share", 0.0, 1.0, step=0.25)
    trial.suggest_int("single", 4, 4)
    loss = (x - 0.7) ** 2 + (math.log10(rate) + 2) ** 2 + (kind is None) + abs(count - 5) + share
    return -loss, float(width)


def test_parameters_of_all_kinds_are_learned() -> None:
    study = run(mixed, screened(n_offspring=40), 100)
    assert sum(row is not None for row in predictions(study)) == 90
    best = max(study.trials, key=lambda trial: trial.values[0])
    assert best.values[0] > -0.5
    assert min(trial.values[1] for trial in study.trials) == 8
    random = run(mixed, optuna.samplers.RandomSampler(seed=0), 100)
    worst = (-12.0, 512.0)
    assert hypervolume(study, worst) > hypervolume(random, worst)
    for trial in study.trials:
        assert isinstance(trial.params["width"], int) and isinstance(trial.params["x"], float)
        assert trial.params["count"] in (1, 3, 5, 7, 9) and trial.params["single"] == 4


def test_numbers_alone_come_close_to_an_optimum() -> None:
    def bowl(trial: Trial) -> float:
        x = [trial.suggest_float(f"x{i}", -5, 5) for i in range(3)]
        return sum((v - i) ** 2 for i, v in enumerate(x))

    assert run(bowl, screened(n_offspring=60), 80, ["minimize"]).best_value < 0.05


def test_parameters_that_only_some_trials_have_are_drawn() -> None:
    def conditional(trial: Trial) -> tuple[float, float]:
        x = digits(trial)
        extra = trial.suggest_float("extra", 0, 1) if x[0] > 1 else 0.0
        return score(x) + extra, cost(x)

    study = run(conditional, screened(), 50)
    assert all(row is not None for row in predictions(study)[10:])
    extra = [t.params["extra"] for t in study.trials[10:] if "extra" in t.params]
    assert len(set(extra)) == len(extra) > 5
    assert all(("extra" in t.params) == (t.params["x0"] > 1) for t in study.trials)


def test_knowledge_is_told_parameters_of_a_single_choice_too() -> None:
    asked: list[Mapping[str, Any]] = []

    def knowledge(params: Mapping[str, Any], /) -> Known:
        asked.append(params)
        return Known([float(params["a"]), float(params["one"])])

    def objective(trial: Trial) -> tuple[float, float]:
        a = trial.suggest_int("a", 0, 500)
        one = trial.suggest_categorical("one", (7,))
        return float(a), float(a % 7 + one + trial.suggest_int("two", 2, 2))

    study = run(objective, screened(knowledge=knowledge), 25)
    assert all(row is not None for row in predictions(study)[10:])
    assert asked and all(p["one"] == 7 and p["two"] == 2 for p in asked)


def test_a_long_study_of_somebody_elses_is_taken_up_at_once() -> None:
    rng = np.random.default_rng(0)
    distributions = {f"x{i}": CategoricalDistribution(CHOICES) for i in range(N_PARAMS)}
    rows = rng.integers(4, size=(2000, N_PARAMS)).tolist()
    study = optuna.create_study(directions=DIRECTIONS, sampler=screened())
    study.add_trials(
        optuna.create_trial(
            params={f"x{i}": v for i, v in enumerate(x)},
            distributions=distributions,
            values=[score(x), cost(x)],
        )
        for x in rows
    )
    began = time.process_time()
    study.optimize(trade, n_trials=10)
    assert time.process_time() - began < 10
    asked = study.trials[2000:]
    assert all(PREDICTED in trial.system_attrs for trial in asked)
    assert not {tuple(t.params.values()) for t in asked} & {tuple(x) for x in rows}
    before = optuna.create_study(directions=DIRECTIONS)
    before.add_trials(study.trials[:2000])
    assert hypervolume(study, (0, 30)) > hypervolume(before, (0, 30))


def test_no_candidate_is_tried_twice() -> None:
    def few(trial: Trial) -> tuple[float, float]:
        x = [trial.suggest_int(f"x{i}", 0, 3) for i in range(4)]
        return float(sum(x) + x[0] * x[1]), float(x[2] - x[3])

    study = run(few, screened(), 110)
    asked = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(asked[10:])) == 100 and not set(asked[10:]) & set(asked[:10])


def test_a_space_that_is_used_up_is_tried_again() -> None:
    def tiny(trial: Trial) -> tuple[float, float]:
        a, b = (trial.suggest_categorical(name, (0, 1, 2)) for name in "ab")
        return float(a + b), float(a * b)

    study = run(tiny, screened(), 40)
    assert len(study.trials) == 40
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 9


@pytest.mark.parametrize("n_start", [2, 13])
def test_it_begins_with_what_it_is_given(n_start: int) -> None:
    start = [{f"x{i}": (n + i) % 4 for i in range(N_PARAMS)} for n in range(4)]
    start += [{f"x{i}": (n * n + i * n) % 4 for i in range(N_PARAMS)} for n in range(9)]
    study = run(trade, screened(start=start[:n_start]), 25)
    assert [t.params for t in study.trials[:n_start]] == start[:n_start]
    assert study.trials[n_start].params not in start


def test_a_start_may_leave_parameters_open() -> None:
    study = run(trade, screened(start=[{"x3": 2, "other": 1}, {"x0": 3}]), 3)
    assert study.trials[0].params["x3"] == 2 and study.trials[1].params["x0"] == 3
    assert len(study.trials[0].params) == N_PARAMS


def test_trials_that_are_enqueued_come_first() -> None:
    study = run(trade, screened(), 12)
    study.enqueue_trial({f"x{i}": 0 for i in range(N_PARAMS)})
    study.optimize(trade, n_trials=10)
    assert study.trials[12].values == [1.0, 1.0]
    assert all(row is not None for row in predictions(study)[13:])


def test_trials_that_fail_or_are_pruned_are_no_hindrance() -> None:
    def unsteady(trial: Trial) -> tuple[float, float]:
        found = trade(trial)
        if trial.number % 4 == 3:
            raise ValueError("by design")
        return found

    study = run(unsteady, screened(), 40, catch=(ValueError,))
    assert len(study.get_trials(states=(TrialState.COMPLETE,))) == 30
    assert sum(row is not None for row in predictions(study)) >= 25


def test_one_sampler_serves_two_studies() -> None:
    sampler = screened()
    one, other = (optuna.create_study(directions=DIRECTIONS, sampler=sampler) for _ in range(2))
    for _ in range(12):
        one.optimize(trade, n_trials=1)
        other.optimize(lambda trial: (-score(digits(trial)), 0.0), n_trials=1)
    assert predictions(one)[10] is not None and predictions(other)[10] is not None
    assert (predictions(one)[11] or [0])[0] > 0 > (predictions(other)[11] or [0])[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"population_size": 1}, "`population_size` must be greater than or equal to 2."),
        ({"n_offspring": 0}, "`n_offspring` must be greater than or equal to 1."),
        ({"unscreened": 0}, "`unscreened` must be a float value within the range (0.0, 1.0]."),
        ({"unscreened": 1.1}, "`unscreened` must be a float value within the range (0.0, 1.0]."),
        ({"mutation_prob": 2.0}, "`mutation_prob` must be None or a float value within the range"),
        ({"crossover_prob": -0.1}, "`crossover_prob` must be a float value within the range"),
        ({"swapping_prob": 7.0}, "`swapping_prob` must be a float value within the range"),
    ],
)
def test_arguments_out_of_range_are_refused_as_optuna_does(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        ScreenedNSGAIISampler(**arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        {"population_size": 2},
        {"population_size": 3, "n_offspring": 1},
        {"unscreened": 1.0},
        {"unscreened": 1e-9},
        {"mutation_prob": 0.0, "crossover_prob": 0.0},
        {"mutation_prob": 1.0, "crossover_prob": 1.0, "swapping_prob": 0.0},
    ],
)
def test_arguments_at_their_ends_are_allowed(arguments: dict[str, Any]) -> None:
    assert len(run(trade, screened(**arguments), 25).trials) == 25


def test_reseeded_it_draws_on_from_other_randomness() -> None:
    samplers = [screened(), screened(), screened()]
    studies = [run(trade, sampler, 10) for sampler in samplers]
    for sampler in samplers[:2]:
        sampler.reseed_rng()
    for study in studies:
        study.optimize(trade, n_trials=10)
    one, other, same = ([t.params for t in study.trials[10:]] for study in studies)
    assert one != other and one != same and other != same


def test_narrow_bounds_are_searched_beyond_what_parents_lead_to() -> None:
    slots = [f"x{i:02d}" for i in range(12)]

    def excess(params: Mapping[str, Any]) -> dict[str, float]:
        size = 6 * params["wide"] + sum(params[name] for name in slots)
        return {"most": size - 8.0, "least": 8.0 - size}

    def knowledge(params: Mapping[str, Any]) -> Known:
        features = [float(params[name]) for name in ("wide", *slots)]
        return Known(features, constraints=excess(params))

    def objective(trial: optuna.Trial) -> float:
        params = {name: trial.suggest_categorical(name, (0, 1)) for name in ("wide", *slots)}
        for name, value in excess(params).items():
            trial.set_constraint(name, value)
        return float(100 * params["wide"] + sum(i * params[name] for i, name in enumerate(slots)))

    # All of them narrow: seven changes at once lead from one of these to a wide one.
    start = [
        {"wide": 0, **{name: int((i + shift) % 12 < 8) for i, name in enumerate(slots)}}
        for shift in range(10)
    ]
    sampler = ScreenedNSGAIISampler(population_size=10, knowledge=knowledge, start=start, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=40)
    kept = [t for t in study.trials if all(value <= 0 for value in t.constraints.values())]
    assert sum(trial.params["wide"] for trial in kept) >= 10


def test_trials_of_others_are_no_hindrance() -> None:
    study = run(trade, screened(knowledge=of_trade), n_trials=25)
    others = [
        {"x0": 9},
        {},
        {f"x{i}": 9 for i in range(N_PARAMS)},
        {f"x{i}": 0 for i in range(N_PARAMS)},
    ]
    archive = Archive(Problem(study.trials[0].distributions, DIRECTIONS, of_trade))
    archive.add(study.trials)
    before = len(archive)
    archive.add(
        optuna.create_trial(
            params=params,
            distributions={name: CategoricalDistribution((0, 9)) for name in params},
            values=[1.0, 1.0],
        )
        for params in others
    )
    assert len(archive) == before + 1
    study.tell(study.ask(), [1, 2])
    study.optimize(trade, n_trials=25)
    assert len(study.trials) == 51


def test_what_failed_is_not_tried_again() -> None:
    def fragile(trial: Trial) -> tuple[float, float]:
        x, y = (trial.suggest_categorical(name, tuple(range(8))) for name in "xy")
        # What is predicted best fails.
        return (math.nan if x > 4 else x + 0.1 * y), y

    study = run(fragile, screened(), n_trials=45)
    began = next(i for i, found in enumerate(predictions(study)) if found is not None)
    failed = [str(t.params) for t in study.trials if t.state == TrialState.FAIL]
    later = [str(t.params) for t in study.trials[began:] if t.state == TrialState.FAIL]
    assert later and len(set(later)) == len(later)
    assert len(set(failed)) == len(failed) - _repeated(study.trials[:began])


def _repeated(trials: Sequence[FrozenTrial]) -> int:
    """Count what was drawn twice while nothing was learned yet."""
    failed = [str(t.params) for t in trials if t.state == TrialState.FAIL]
    return len(failed) - len(set(failed))
