from __future__ import annotations

import itertools

import optuna
import pytest

from tftas_optuna import Scorer, pareto_front, search
from tftas_optuna.search.rescore import kendall_tau
from tftas_optuna.spaces import AutoFormerSpace


def run(space: AutoFormerSpace, **kwargs: object) -> optuna.Study:
    fixed = dict(population_size=8, img_size=32, num_classes=10, seed=3, device="cpu")
    return search(space, **{"n_trials": 24, "fidelity": "collapsed", **fixed, **kwargs})


def test_a_collapsed_search_ends_with_exact_scores(small_space: AutoFormerSpace) -> None:
    study = run(small_space)
    assert study.user_attrs["fidelity"] == "collapsed"
    kwargs = dict(seed=3, img_size=32, num_classes=10)
    exact = Scorer(small_space, **kwargs)
    collapsed = Scorer(small_space, fidelity="collapsed", **kwargs)
    assert study.metric_names == ["dss_collapsed", "n_params"]
    front = pareto_front(study)
    for candidate in front:
        assert candidate.scores() == {
            "dss_collapsed": candidate.dss,
            "dss": candidate.dss_exact,
        }
        assert candidate.dss == pytest.approx(collapsed(candidate.architecture), rel=1e-5)
        assert candidate.dss_exact == pytest.approx(exact(candidate.architecture), rel=1e-5)
    agreement = study.user_attrs["exact_agreement"]
    assert agreement["kendall_tau"] == kendall_tau(
        [c.dss for c in front], [c.dss_exact for c in front]
    )
    mean = sum(c.dss / c.dss_exact - 1 for c in front) / len(front)
    assert agreement["relative_offset"] == pytest.approx(mean)


def test_an_exact_search_stores_nothing_of_it(small_space: AutoFormerSpace) -> None:
    study = run(small_space, fidelity="exact")
    assert "exact_dss" not in study.user_attrs
    assert all(candidate.dss_exact is None for candidate in pareto_front(study))


def test_collapsed_and_batched_is_reproducible(small_space: AutoFormerSpace) -> None:
    first, second = run(small_space), run(small_space)
    assert [t.values for t in first.trials] == [t.values for t in second.trials]
    assert [t.params for t in first.trials] == [t.params for t in second.trials]


def test_kendalls_tau_by_definition() -> None:
    first, second = [3.0, 1.0, 4.0, 1.5, 5.0], [2.0, 1.0, 3.0, 9.0, 8.0]
    pairs = list(itertools.combinations(range(5), 2))
    agree = sum((first[i] - first[j]) * (second[i] - second[j]) > 0 for i, j in pairs)
    assert kendall_tau(first, second) == pytest.approx((2 * agree - len(pairs)) / len(pairs))
    assert kendall_tau(first, first) == 1 and kendall_tau(first, [-x for x in first]) == -1
    assert kendall_tau([1.0], [1.0]) == 1
