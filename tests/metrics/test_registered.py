"""Costs and indicators of the user's, registered by a call or a decorator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from tftas_optuna import (
    ArchitectureObjective,
    Scorer,
    TftasError,
    pareto_front,
    register_cost,
    register_indicator,
    score_model,
    search,
)
from tftas_optuna.metrics import Cost, get_metric, metric_names, registry
from tftas_optuna.spaces import AutoFormerSpace

SIZES = {"img_size": 32, "num_classes": 10}


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(registry.METRICS, "registered", {})


def n_weights(model, images) -> float:
    assert not model.training and images.shape == (1, 3, 32, 32) and (images == 1).all()
    return sum(float((parameter < 0).sum()) for parameter in model.parameters())


def test_an_indicator_sees_the_supernets_signed_weights(small_space: AutoFormerSpace) -> None:
    register_indicator("n_negative", n_weights)
    scorer = Scorer(small_space, indicator="n_negative", seed=3, **SIZES)
    arch = small_space.sample(np.random.default_rng(0))
    subnet = Scorer(small_space, seed=3, **SIZES).subnet(arch)
    expected = sum(float((parameter < 0).sum()) for parameter in subnet.parameters())
    assert scorer(arch) == expected > 0
    assert score_model(subnet, indicator="n_negative") == expected
    with pytest.raises(TftasError, match="is one number, not a sum over layers"):
        scorer.explain(arch)


def test_own_objectives_are_searched_stored_and_shown(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    register_cost("n_heads", lambda arch, **_: sum(arch.num_heads), direction="maximize")
    register_indicator("n_negative", n_weights, direction="minimize")
    arguments = dict(
        storage=f"sqlite:///{tmp_path}/own.db",
        objectives=("n_negative", "n_heads"),
        bounds={"n_heads": (2, 8)},
        population_size=8,
        n_seeds=2,
        **SIZES,
    )
    study = search(small_space, n_trials=12, **arguments)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    scorer = Scorer(small_space, indicator="n_negative", n_seeds=2, **SIZES)
    for trial in study.trials:
        arch = small_space.decode(trial.params)
        assert trial.values == [scorer(arch), sum(arch.num_heads)]
        # Nothing else is scored.
        assert set(trial.user_attrs) == {"n_negative_sd", "n_params", "macs"}
        assert trial.constraints["n_heads_max"] == pytest.approx(sum(arch.num_heads) / 8 - 1)
    for candidate in pareto_front(study):
        assert candidate.value("n_heads") <= 8 and candidate.value("n_negative") > 0
    more = search(small_space, n_trials=4, **arguments)
    whole = search(small_space, n_trials=16, **{**arguments, "storage": None})
    assert [trial.values for trial in more.trials] == [trial.values for trial in whole.trials]


def test_an_objective_in_ones_own_study(small_space: AutoFormerSpace) -> None:
    register_indicator("n_negative", n_weights)
    scorer = Scorer(small_space, indicator="n_negative", **SIZES)
    objective = ArchitectureObjective(small_space, scorer=scorer)
    assert objective.settings.objectives == ("n_negative", "n_params")
    study = optuna.create_study(directions=objective.directions)
    objective.annotate(study)
    study.optimize(objective, n_trials=3)
    own = Scorer(small_space, indicator="n_negative", **SIZES)
    assert [trial.values[0] for trial in study.trials] == [
        own(small_space.decode(trial.params)) for trial in study.trials
    ]


def test_an_indicator_that_is_no_number_is_refused(small_space: AutoFormerSpace) -> None:
    register_indicator("broken", lambda model, images: float("nan"))
    with pytest.raises(TftasError, match="indicator 'broken' gives nan"):
        Scorer(small_space, indicator="broken", **SIZES)(small_space.smallest())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dss", "'dss' exists already"),
        ("latency", "'latency' exists already"),
        ("mine_collapsed", "studies append '_collapsed' to the names"),
        ("My Score", "cannot be a name"),
    ],
)
def test_names_that_are_taken(name: str, message: str) -> None:
    for register in (register_cost, register_indicator):
        with pytest.raises(TftasError, match=message):
            register(name, n_weights)


def test_a_taken_name_is_replaced_only_when_asked_for() -> None:
    register_indicator("mine", n_weights)
    with pytest.raises(TftasError, match="'mine' exists already"):
        register_cost("mine", lambda arch, **_: 1.0)
    register_cost("mine", lambda arch, **_: 1.0, replace=True)
    assert isinstance(get_metric("mine"), Cost) and metric_names().count("mine") == 1


def test_registering_by_a_decorator(small_space: AutoFormerSpace) -> None:
    @register_cost("n_heads", unit="heads")
    def n_heads(arch, *, img_size, num_classes, in_chans):
        assert (img_size, num_classes, in_chans) == (32, 10, 3)
        return sum(arch.num_heads)

    @register_indicator("n_negative", direction="minimize")
    def negative(model, images):
        return n_weights(model, images)

    assert get_metric("n_heads").unit == "heads"
    assert get_metric("n_negative").direction == "minimize"
    study = search(
        small_space, n_trials=2, objectives=("n_negative", "n_heads"), population_size=2, **SIZES
    )
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MINIMIZE"]


def test_built_in_metrics_have_the_names_of_their_files() -> None:
    for name in metric_names():
        assert get_metric(name).name == name
    assert {"dss", "n_params", "macs", "activations", "peak_memory", "latency"} <= set(
        metric_names()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fidelity": "collapsed"}, "'n_negative' has no fidelity 'collapsed'; it has: exact"),
        ({"head_weight": 2.0}, "'n_negative' has no option head_weight; known: none"),
        ({"matmul_precision": "high"}, "matmul_precision does not apply to .*'n_negative'"),
    ],
)
def test_what_does_not_apply_to_a_function_is_refused(
    small_space: AutoFormerSpace, options: dict[str, object], message: str
) -> None:
    register_indicator("n_negative", n_weights)
    with pytest.raises(TftasError, match=message):
        Scorer(small_space, indicator="n_negative", **SIZES, **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_cost_that_is_no_number_is_told_and_the_study_goes_on(
    small_space: AutoFormerSpace, tmp_path: Path, value: float
) -> None:
    broken = [False]
    register_cost("fragile", lambda arch, **_: value if broken[0] else sum(arch.num_heads))
    arguments = dict(
        storage=f"sqlite:///{tmp_path}/study.db",
        objectives=("n_params", "fragile"),
        population_size=4,
        **SIZES,
    )
    search(small_space, n_trials=4, **arguments)
    broken[0] = True
    with pytest.raises(TftasError, match=r"cost 'fragile' is (nan|inf) for .*expected a finite"):
        search(small_space, n_trials=4, **arguments)
    broken[0] = False
    study = search(small_space, n_trials=4, **arguments)
    assert len(study.trials) == 8


def test_an_indicator_can_be_bounded(small_space: AutoFormerSpace) -> None:
    register_indicator("balance", lambda model, images: n_weights(model, images) - 40_000)
    study = search(
        small_space,
        n_trials=12,
        objectives=("n_params",),
        bounds={"balance": (-10_000, None)},
        population_size=6,
        **SIZES,
    )
    for trial in study.trials:
        excess = trial.constraints["balance_min"]
        assert (excess <= 0) == (trial.user_attrs["balance"] >= -10_000)
        assert excess == pytest.approx((-10_000 - trial.user_attrs["balance"]) / 10_000)


def test_a_cost_that_cannot_be_called_is_refused_at_once() -> None:
    with pytest.raises(TftasError, match="'old' cannot be called as count.*'in_chans'"):
        register_cost("old", lambda arch, *, img_size, num_classes: 1.0)
