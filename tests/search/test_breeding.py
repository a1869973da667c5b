"""What generations are bred from: the feasible, the best, and what others found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from processes import at, seen

from tftas_optuna import TftasError, register_cost, register_indicator
from tftas_optuna.metrics import registry
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.place import place_of

Search = Callable[..., optuna.Study]
COSTS = ("n_params", "macs")


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(registry.METRICS, "registered", {})


def test_parents_out_of_bounds_come_last(run: Search, small_space: AutoFormerSpace) -> None:
    register_indicator("width", lambda model, _: model.num_features)
    rng = np.random.default_rng(0)
    wide, narrow = (dataclasses.replace(small_space, embed_dim=(n,)) for n in (64, 32))
    start = [space.sample(rng) for space in (wide, narrow) for _ in range(8)]
    # A bound on an indicator shows only once it is scored; the narrow ones cost less.
    study = run(n_trials=24, start=start, objectives=COSTS, bounds={"width": (60, None)})
    children = [trial.params["embed_dim"] for trial in study.trials[16:]]
    assert children.count(64) >= 6


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_tpe_learns_from_the_generations_before(run: Search, direction: str) -> None:
    register_cost("n_heads", lambda arch, **_: sum(arch.num_heads), direction=direction)
    study = run(n_trials=60, population_size=20, objectives=("n_heads",), sampler="tpe")
    found = np.reshape([trial.values[0] for trial in study.trials], (3, 20)).mean(axis=1)
    gained = found[2] - found[0] if direction == "maximize" else found[0] - found[2]
    assert gained > 1.5


def test_every_generation_and_every_search_draws_for_itself(
    run: Search, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    reports: list[SearchProgress] = []
    storage = f"sqlite:///{tmp_path}/study.db"
    arguments = {"objectives": COSTS, "sampler": "random", "storage": storage}
    other = at(4, lambda: run(n_trials=8, **arguments))

    def callback(progress: SearchProgress) -> None:
        other(progress)
        reports.append(progress)

    study = run(n_trials=40, callback=callback, **arguments)
    drawn: dict[int, list[object]] = {0: [], 1: []}
    for trial in study.trials:
        drawn[place_of(trial).island].append(small_space.decode(trial.params))
    assert (len(drawn[0]), len(drawn[1])) == (40, 8)
    # Of so many architectures hardly one is drawn twice.
    assert reports[-1].n_replaced < 8
    alone = run(n_trials=8, objectives=COSTS, sampler="random").trials
    assert drawn[0][:8] == [small_space.decode(trial.params) for trial in alone]
    assert len(set(drawn[1]) - set(drawn[0][:8])) >= 6


def test_two_bounds_are_kept_each_for_itself(run: Search) -> None:
    # The room that one bound leaves is no excuse for the excess over the other.
    bounds = {"n_params": (None, 1e9), "macs": (None, 1.0e6)}
    study = run(objectives=COSTS, bounds=bounds)
    assert all(trial.user_attrs == {} and trial.values[1] <= 1.0e6 for trial in study.trials)


def test_trials_that_did_not_finish_are_no_hindrance(run: Search) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = run(n_trials=8, storage=storage)
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING):
        study.add_trial(optuna.create_trial(state=state))
    run(n_trials=5, storage=storage)
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))
    study = run(n_trials=7, storage=storage)
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    whole = run(n_trials=20).trials
    assert [(t.params, t.values) for t in finished] == [(t.params, t.values) for t in whole]


def test_with_what_others_found_it_goes_on_as_if_it_had_not_stopped(
    run: Search, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    def with_another(storage: str, *parts: int) -> list[tuple[object, ...]]:
        best = small_space.smallest()
        # Screens of two searches that know the costs would try the same at the same time.
        arguments = {"storage": storage, "objectives": COSTS, "sampler": "nsgaii"}
        other = at(10, lambda: run(n_trials=8, start=[best], **arguments))
        for n_trials in parts:
            study = run(n_trials=n_trials, callback=other, **arguments)
        return [row[1:] for row in seen(study) if place_of(study.trials[row[0]]).island == 0]

    whole = with_another(f"sqlite:///{tmp_path}/whole.db", 40)
    parts = with_another(f"sqlite:///{tmp_path}/parts.db", 21, 19)
    assert len(whole) == 40 and parts == whole


def test_a_search_that_ended_frees_its_number(run: Search, tmp_path: Path) -> None:
    def fail(progress: SearchProgress) -> None:
        if progress.n_done:
            raise RuntimeError("of the callback")

    arguments = {"storage": f"sqlite:///{tmp_path}/study.db", "objectives": COSTS}
    with pytest.raises(RuntimeError, match="of the callback"):
        run(n_trials=8, callback=fail, **arguments)
    study = run(n_trials=8, **arguments)
    assert {place_of(trial).island for trial in study.trials} == {0}


def test_what_to_start_from_may_change_between_runs(
    run: Search, small_space: AutoFormerSpace
) -> None:
    generations = [0] * 8 + [1] * 8
    largest = small_space.largest()
    rng = np.random.default_rng(0)
    for before, after in (
        ([], [largest]),
        ([small_space.sample(rng) for _ in range(5)], []),
    ):
        storage = optuna.storages.InMemoryStorage()
        arguments = {"storage": storage, "objectives": COSTS, "sampler": "nsgaii"}
        run(n_trials=5, start=before, **arguments)
        study = run(n_trials=11, start=after, **arguments)
        archs = [small_space.decode(trial.params) for trial in study.trials]
        assert len(set(archs)) == 16
        # It joins the generation in hand, which does not grow by that.
        assert archs[5 : 5 + len(after)] == after
        labels = [trial.system_attrs["NSGAIISampler:generation"] for trial in study.trials]
        assert labels == generations


def test_what_cannot_be_started_from_creates_nothing(
    run: Search, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    outside = dataclasses.replace(small_space.largest(), embed_dim=40)
    with pytest.raises(TftasError, match="embed_dim"):
        run(start=[outside], storage=f"sqlite:///{tmp_path}/study.db")
    assert list(tmp_path.iterdir()) == []


def test_screened_generations_grow_and_are_resumed(run: Search, tmp_path: Path) -> None:
    arguments = {"objectives": COSTS, "population_size": 4}
    whole = run(n_trials=200, **arguments)
    places = [place_of(trial) for trial in whole.trials]
    sizes = [sum(p.generation == g for p in places) for g in range(places[-1].generation)]
    assert sizes[:5] == [4] * 5 and sizes == sorted(sizes) and sizes[-1] > 8
    storage = f"sqlite:///{tmp_path}/parts.db"
    # Stopped within a generation that has grown, and at the end of one.
    for n_trials in (sum(sizes[:-2]) + 5, sizes[-2] - 5, 7, sizes[-1] + 200):
        study = run(n_trials=n_trials, storage=storage, **arguments)
    assert seen(study)[:200] == seen(whole)
