from __future__ import annotations

import dataclasses
import statistics

import optuna
import pytest
import torch

from tftas_optuna import (
    DSSObjective,
    Execution,
    Scorer,
    SearchProgress,
    UnavailableError,
    families,
    pareto_front,
    register_indicator,
    score_exactly,
    search,
)
from tftas_optuna.families import get_family
from tftas_optuna.metrics import registry
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.front import get_candidate


def run(space: AutoFormerSpace, **kwargs: object) -> optuna.Study:
    fixed = dict(population_size=8, img_size=32, num_classes=10, seed=3)
    return search(
        space,
        execution=Execution("cpu"),
        **{"n_trials": 24, "fidelity": "collapsed", "n_exact": None, **fixed, **kwargs},
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
    offsets = [c.values["dss"] / c.exact["dss"] - 1 for c in front]
    assert agreement["relative_offset"] == pytest.approx(statistics.mean(offsets))
    assert agreement["relative_offset_sd"] == pytest.approx(statistics.stdev(offsets))
    assert agreement["n"] == len(front)


@pytest.mark.parametrize("n_exact", [0, 1, 4])
def test_of_a_long_front_some_members_are_scored_exactly(
    small_space: AutoFormerSpace, n_exact: int
) -> None:
    seen: list[SearchProgress] = []
    study = run(small_space, n_exact=n_exact, callback=seen.append)
    front = pareto_front(study)
    assert len(front) > 4
    exact = [i for i, candidate in enumerate(front) if candidate.exact]
    assert len(exact) == n_exact
    if n_exact == 4:
        assert exact[0] == 0 and exact[-1] == len(front) - 1
    told = [p.n_exact for p in seen if p.n_exact_wanted]
    assert told[:1] + told[-1:] == ([0, n_exact] if n_exact else []) and told == sorted(told)
    assert {p.n_exact_wanted for p in seen} <= {0, n_exact}
    assert study.user_attrs["exact_agreement"].get("dss", {"n": 0})["n"] == n_exact


def test_the_rest_is_scored_exactly_when_somebody_asks(small_space: AutoFormerSpace) -> None:
    study = run(small_space, n_exact=2)
    whole = run(small_space)
    told: list[tuple[int, int]] = []
    score_exactly(study, callback=lambda *counts: told.append(counts))
    assert pareto_front(study) == pareto_front(whole)
    assert study.user_attrs["exact_agreement"] == whole.user_attrs["exact_agreement"]
    missing = len(pareto_front(study)) - 2
    assert told[0] == (0, missing) and told[-1] == (missing, missing)
    told.clear()
    score_exactly(study, callback=lambda *counts: told.append(counts))
    assert not told


def test_exact_scores_are_kept_when_the_work_is_cut_off(small_space: AutoFormerSpace) -> None:
    study = run(small_space, n_exact=0)

    def stop(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_exactly(study, callback=stop)
    n_exact = sum(bool(candidate.exact) for candidate in pareto_front(study))
    assert 3 <= n_exact < len(pareto_front(study))


def test_options_of_an_indicator_are_not_left_out_silently(small_space: AutoFormerSpace) -> None:
    scorer = Scorer(small_space, fidelity="collapsed", device="cpu", head_weight=2.0)
    objective = DSSObjective(small_space, scorer=scorer)
    study = optuna.create_study(directions=objective.directions)
    objective.annotate(study)
    study.optimize(objective, n_trials=2)
    with pytest.raises(UnavailableError, match="its own options of dss"):
        score_exactly(study)


def test_left_alone_a_search_collapses_what_is_known_to_be_ranked_alike(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(small_space, n_trials=2, fidelity="auto").user_attrs["fidelity"] == "collapsed"
    costs = run(small_space, n_trials=2, fidelity="auto", objectives=("n_params", "macs"))
    assert costs.user_attrs["fidelity"] == "exact"
    family = dataclasses.replace(get_family("autoformer"), ranked_alike=())
    monkeypatch.setitem(families._BUILT_IN, "autoformer", family)
    study = run(small_space, n_trials=2, fidelity="auto")
    assert study.user_attrs["fidelity"] == "exact" and not study.user_attrs["approximated"]


def test_left_alone_a_search_goes_on_as_its_study_began(small_space: AutoFormerSpace) -> None:
    storage = optuna.storages.InMemoryStorage()
    run(small_space, storage=storage, n_trials=8, fidelity="exact")
    study = run(small_space, storage=storage, n_trials=8, fidelity="auto")
    whole = run(small_space, n_trials=16, fidelity="exact")
    assert [t.values for t in study.trials] == [t.values for t in whole.trials]
    assert study.user_attrs["fidelity"] == "exact"


@pytest.mark.parametrize("fidelity", ["exact", "collapsed"])
def test_threads_change_no_digit_and_leave_pytorch_as_it_was(
    small_space: AutoFormerSpace, fidelity: str
) -> None:
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    studies = []
    try:
        torch.set_float32_matmul_precision("high")
        for count in (1, 3):
            torch.set_num_threads(count)
            studies.append(run(small_space, n_trials=16, fidelity=fidelity))
            assert torch.get_num_threads() == count
            assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    one, three = studies
    assert [t.values for t in one.trials] == [t.values for t in three.trials]
    assert one.user_attrs.get("exact") == three.user_attrs.get("exact")


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
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_indicator("width", lambda model, _: model.num_features)
    study = run(small_space, n_trials=8, objectives=("dss", "width", "n_params"))
    assert study.metric_names == ["dss_collapsed", "width", "n_params"]
    assert set(study.user_attrs["exact"]) == {"dss"}
    for candidate in pareto_front(study):
        named = candidate.named_values()
        assert named["width"] == candidate.architecture.embed_dim
        assert "width_collapsed" not in named
