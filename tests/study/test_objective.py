from __future__ import annotations

import dataclasses
import pickle
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import optuna
import pytest

from tftas_optuna import (
    Architecture,
    ArchitectureObjective,
    DSSObjective,
    Scorer,
    TftasError,
    UnavailableError,
    pareto_front,
    register_indicator,
    search,
)
from tftas_optuna.metrics import registry
from tftas_optuna.scoring.panel import Column, Panel
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.record import read_settings


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


def test_an_architecture_is_scored_once(
    small_space: AutoFormerSpace, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Architecture] = []
    by_seed = Panel.by_seed

    def counted(self: Panel, archs: Sequence[Architecture]) -> dict[str, Column]:
        calls.extend(archs)
        return by_seed(self, archs)

    monkeypatch.setattr(Panel, "by_seed", counted)
    objective = DSSObjective(small_space, scorer=scorer)
    params = small_space.encode(small_space.smallest())
    values = {
        objective(optuna.trial.FixedTrial({**params, "block_04": label}))
        for label in ("h1 r2", "h3 r4")
    }
    assert len(values) == 1 and len(calls) == 1
    largest = small_space.largest()
    first, second = objective.evaluate([largest, largest])
    assert first == second and calls.count(largest) == 1


def test_a_scorer_of_another_space_or_indicator_is_refused(
    small_space: AutoFormerSpace, scorer: Scorer
) -> None:
    other = dataclasses.replace(small_space, name="other", depth=(2, 3))
    with pytest.raises(TftasError, match="the scorer is one of space 'small', .* of 'other'"):
        DSSObjective(other, scorer=scorer)
    with pytest.raises(TftasError, match="the scorer computes 'dss', which is no objective"):
        ArchitectureObjective(small_space, objectives=("n_params", "macs"), scorer=scorer)
    with pytest.raises(TftasError, match="without dss; use ArchitectureObjective"):
        DSSObjective(small_space, objectives=("n_params",), scorer=scorer)


def test_costs_alone_need_no_scorer(small_space: AutoFormerSpace) -> None:
    objective = ArchitectureObjective(small_space, objectives=("n_params", "macs"))
    trial = optuna.trial.FixedTrial(small_space.encode(small_space.largest()))
    assert objective(trial) == small_space.costs(small_space.largest())


def test_other_indicators_are_computed_on_the_same_supernets(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_indicator("bias", lambda model, _: model.head.weight.sum().item())
    sizes = dict(img_size=32, num_classes=10, seed=3)
    scorer = Scorer(small_space, **sizes)
    objective = ArchitectureObjective(small_space, objectives=("dss", "bias"), scorer=scorer)
    (found,) = objective.evaluate([small_space.smallest()])
    alone = Scorer(small_space, indicator="bias", **sizes)
    assert found.values[1] == alone(small_space.smallest())


def test_a_study_of_other_directions_or_settings_is_refused(
    small_space: AutoFormerSpace, scorer: Scorer
) -> None:
    objective = DSSObjective(small_space, scorer=scorer)
    wrong = optuna.create_study(study_name="wrong", directions=["minimize", "minimize"])
    with pytest.raises(UnavailableError, match="'wrong' has the directions minimize, minimize"):
        objective.annotate(wrong)
    assert wrong.user_attrs == {}
    study = optuna.create_study(directions=objective.directions)
    objective.annotate(study)
    objective.annotate(study)
    other = Scorer(small_space, img_size=32, num_classes=10, seed=5)
    with pytest.raises(UnavailableError, match="made with supernet seed 0, not 5"):
        DSSObjective(small_space, scorer=other).annotate(study)


def test_an_objective_travels_as_how_it_was_made(
    small_space: AutoFormerSpace, scorer: Scorer
) -> None:
    objective = DSSObjective(small_space, scorer=scorer, bounds={"n_params": (None, 9e4)})
    trial = optuna.trial.FixedTrial(small_space.encode(small_space.smallest()))
    value = objective(trial)
    packed = pickle.dumps(objective)
    assert len(packed) < 10_000
    again = pickle.loads(packed)
    assert type(again) is DSSObjective and again.settings == objective.settings
    assert again(trial) == value
    twice = Scorer(small_space, head_weight=2.0, seed=3, img_size=32)
    assert pickle.loads(pickle.dumps(twice)).indicator == twice.indicator
    assert pickle.loads(pickle.dumps(twice)).batch([small_space.smallest()]) == twice.batch(
        [small_space.smallest()]
    )


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"n_params": 5e4}, r"the bound on n_params is 50000.0, expected lowest and highest"),
        ({"n_params": (None, float("inf"))}, "a bound on n_params is inf, allowed: finite"),
        ({"n_params": (None, "6M")}, "a bound on n_params is '6M', allowed: finite numbers"),
        ([("n_params", 1)], "expected pairs by name"),
    ],
)
def test_bounds_of_the_wrong_form(
    small_space: AutoFormerSpace, scorer: Scorer, bounds: object, message: str
) -> None:
    with pytest.raises(TftasError, match=message):
        DSSObjective(small_space, scorer=scorer, bounds=bounds)  # type: ignore[arg-type]


@pytest.fixture
def dss(small_space: AutoFormerSpace) -> Callable[..., DSSObjective]:
    return partial(DSSObjective, small_space)


def test_scores_are_as_quick_as_those_of_a_search(
    small_space: AutoFormerSpace, dss: Callable[..., DSSObjective]
) -> None:
    objective, arch = dss(), small_space.largest()
    searched = search(small_space, n_trials=2, start=[arch], n_exact=0)
    assert objective.evaluate(arch)[0].values[0] == pytest.approx(searched.trials[0].values[0])
    names = ("fidelity", "approximated")
    settings = read_settings(searched)
    assert [getattr(objective.settings, name) for name in names] == ["collapsed", ("dss",)]
    assert [getattr(settings, name) for name in names] == ["collapsed", ("dss",)]
    exact = dss(fidelity="exact").evaluate(arch)[0].values[0]
    assert exact == Scorer(small_space)(arch) != objective.evaluate(arch)[0].values[0]


def test_every_indicator_has_the_fidelity_that_it_has_in_a_search(
    small_space: AutoFormerSpace,
) -> None:
    names = ("naswot", "dss")
    objective = ArchitectureObjective(small_space, objectives=names, fidelity="collapsed")
    values = objective.evaluate(small_space.smallest())[0].values
    for name, fidelity, value in zip(names, ("exact", "collapsed"), values, strict=True):
        alone = Scorer(small_space, indicator=name, fidelity=fidelity)
        assert value == pytest.approx(alone(small_space.smallest()))
    mixed = ArchitectureObjective(small_space, objectives=("dss", "synflow", "ffn_capacity"))
    assert mixed.settings.fidelity == "collapsed"


def test_the_fidelity_of_the_scorer_counts(
    small_space: AutoFormerSpace, dss: Callable[..., DSSObjective], scorer: Scorer
) -> None:
    assert dss(scorer=scorer).settings.fidelity == "exact"
    assert dss(scorer=scorer, fidelity="exact").settings.approximated == ()
    with pytest.raises(TftasError, match="fidelity is 'collapsed', the scorer's is 'exact'"):
        dss(scorer=scorer, fidelity="collapsed")
    with pytest.raises(TftasError, match="has no fidelity 'fast'"):
        dss(fidelity="fast")
    with pytest.raises(TftasError, match="does not apply: this study computes no indicator"):
        ArchitectureObjective(small_space, objectives="macs", fidelity="collapsed")


def test_a_continued_study_keeps_its_fidelity(
    small_space: AutoFormerSpace, dss: Callable[..., DSSObjective]
) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    dss(fidelity="exact").annotate(study)
    objective, arch = dss(), small_space.smallest()
    assert callable(objective.knowledge)
    objective.annotate(study)
    assert objective.settings.fidelity == "exact" and objective.settings.approximated == ()
    assert objective.evaluate(arch)[0].values[0] == Scorer(small_space)(arch)
    with pytest.raises(UnavailableError, match="made with fidelity exact, not collapsed"):
        dss(fidelity="collapsed").annotate(study)
    late = dss()
    late.evaluate(arch)
    with pytest.raises(UnavailableError, match="made with fidelity exact, not collapsed"):
        late.annotate(study)
