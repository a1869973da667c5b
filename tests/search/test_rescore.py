from __future__ import annotations

import itertools

import optuna
import pytest

from tftas_optuna import Execution, Scorer, pareto_front, register_indicator, search
from tftas_optuna.metrics import registry
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.front import get_candidate


def run(space: AutoFormerSpace, **kwargs: object) -> optuna.Study:
    fixed = dict(population_size=8, img_size=32, num_classes=10, seed=3)
    return search(
        space,
        execution=Execution("cpu"),
        **{"n_trials": 24, "fidelity": "collapsed", **fixed, **kwargs},
    )


def test_a_collapsed_search_ends_with_exact_scores(small_space: AutoFormerSpace) -> None:
    study = run(small_space)
    assert study.user_attrs["fidelity"] == "collapsed"
    kwargs = dict(seed=3, img_size=32, num_classes=10)
    exact = Scorer(small_space, **kwargs)
    collapsed = Scorer(small_space, fidelity="collapsed", **kwargs)
    assert study.metric_names == ["dss_collapsed", "n_params"]
    front = pareto_front(study)
    for candidate in front:
        named = candidate.named_values()
        assert list(named) == ["dss_collapsed", "dss", "n_params", "macs"]
        assert named["dss_collapsed"] == candidate.values["dss"]
        assert named["dss"] == candidate.exact["dss"]
        approximate = collapsed(candidate.architecture)
        assert candidate.values["dss"] == pytest.approx(approximate, rel=1e-5)
        assert candidate.exact["dss"] == pytest.approx(exact(candidate.architecture), rel=1e-5)
    agreement = study.user_attrs["exact_agreement"]["dss"]
    assert agreement["kendall_tau"] == kendall_tau(
        [c.values["dss"] for c in front], [c.exact["dss"] for c in front]
    )
    mean = sum(c.values["dss"] / c.exact["dss"] - 1 for c in front) / len(front)
    assert agreement["relative_offset"] == pytest.approx(mean)


def test_an_exact_search_stores_nothing_of_it(small_space: AutoFormerSpace) -> None:
    study = run(small_space, fidelity="exact")
    assert "exact" not in study.user_attrs
    assert all(not candidate.exact for candidate in pareto_front(study))


def test_collapsed_and_batched_is_reproducible(small_space: AutoFormerSpace) -> None:
    first, second = run(small_space), run(small_space)
    assert [t.values for t in first.trials] == [t.values for t in second.trials]
    assert [t.params for t in first.trials] == [t.params for t in second.trials]


def test_exact_scores_are_kept_when_a_trial_leaves_the_front(small_space: AutoFormerSpace) -> None:
    storage = optuna.storages.InMemoryStorage()
    before = pareto_front(run(small_space, storage=storage, n_trials=8))
    study = run(small_space, storage=storage, n_trials=24)
    left = {c.trial for c in before} - {c.trial for c in pareto_front(study)}
    assert left
    for candidate in before:
        assert get_candidate(study, candidate.trial).exact == candidate.exact != {}


def test_exact_scores_are_averaged_over_the_same_supernets(small_space: AutoFormerSpace) -> None:
    sizes = dict(img_size=32, num_classes=10)
    study = run(small_space, n_trials=8, n_seeds=2, supernet_seed=0, **sizes)
    exact = Scorer(small_space, seed=0, n_seeds=2, device="cpu", **sizes)
    for candidate in pareto_front(study):
        expected = exact(candidate.architecture)
        assert candidate.exact["dss"] == pytest.approx(expected, rel=1e-5)


def test_an_indicator_that_has_no_approximation_is_exact_from_the_start(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", {})
    register_indicator("width", lambda model, _: model.num_features)
    study = run(small_space, n_trials=8, objectives=("dss", "width", "n_params"))
    assert study.metric_names == ["dss_collapsed", "width", "n_params"]
    assert set(study.user_attrs["exact"]) == {"dss"}
    for candidate in pareto_front(study):
        named = candidate.named_values()
        assert named["width"] == candidate.architecture.embed_dim
        assert "width_collapsed" not in named


def test_kendalls_tau_by_definition() -> None:
    first, second = [3.0, 1.0, 4.0, 1.5, 5.0], [2.0, 1.0, 3.0, 9.0, 8.0]
    pairs = list(itertools.combinations(range(5), 2))
    agree = sum((first[i] - first[j]) * (second[i] - second[j]) > 0 for i, j in pairs)
    assert kendall_tau(first, second) == pytest.approx((2 * agree - len(pairs)) / len(pairs))
    assert kendall_tau(first, first) == 1 and kendall_tau(first, [-x for x in first]) == -1
    assert kendall_tau([1.0], [1.0]) == 1
