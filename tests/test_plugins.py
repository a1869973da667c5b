"""Costs and indicators of one's own, registered by a call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from tftas_optuna import (
    DSSObjective,
    Scorer,
    TftasError,
    pareto_front,
    plugins,
    register_cost,
    register_indicator,
    score_model,
    search,
)
from tftas_optuna.costs import _registry
from tftas_optuna.spaces import AutoFormerSpace

SIZES = {"img_size": 32, "num_classes": 10}


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(plugins, "_REGISTERED", {})
    monkeypatch.setattr(_registry, "_REGISTERED", {})


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
        metrics=("n_negative", "n_heads"),
        constraints={"n_heads": (2, 8)},
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
        assert {"dss", "dss_sd", "n_params", "macs"} <= set(trial.user_attrs)
        assert trial.constraints["n_heads_max"] == pytest.approx(sum(arch.num_heads) / 8 - 1)
    for candidate in pareto_front(study):
        assert candidate.cost("n_heads") <= 8 and candidate.cost("n_negative") > 0
    more = search(small_space, n_trials=4, **arguments)
    whole = search(small_space, n_trials=16, **{**arguments, "storage": None})
    assert [trial.values for trial in more.trials] == [trial.values for trial in whole.trials]


def test_an_objective_in_ones_own_study(small_space: AutoFormerSpace) -> None:
    register_indicator("n_negative", n_weights)
    scorer = Scorer(small_space, **SIZES)
    objective = DSSObjective(small_space, metrics=("n_negative", "n_params"), scorer=scorer)
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
        ("dss", "'dss' is kept for DSS"),
        ("dss_mine", "'dss_mine' is kept for DSS"),
        ("latency", "'latency' exists already"),
        ("My Score", "cannot be a name"),
    ],
)
def test_names_that_are_taken(name: str, message: str) -> None:
    with pytest.raises(TftasError, match=message):
        register_indicator(name, n_weights)
