"""What a search tells while it runs, and when it stops."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from processes import SIZES, at, seen

from tftas_optuna import pareto_front, register_indicator, search
from tftas_optuna.metrics import Meters, registry
from tftas_optuna.search import api, coordinator, progress
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.hypervolume import Hypervolume
from tftas_optuna.study.record import read_settings

Search = Callable[..., optuna.Study]
COSTS = ("n_params", "macs")


def test_time_that_is_up_ends_a_generation_in_its_middle(
    run: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    for module in (api, coordinator, progress):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def pass_a_day() -> None:
        now[0] += 86400

    storage = optuna.storages.InMemoryStorage()
    one_by_one: dict[str, Any] = dict(storage=storage, fidelity="exact")
    study = run(n_trials=20, timeout=3600, callback=at(3, pass_a_day), **one_by_one)
    n_done = len(study.trials)
    assert 3 <= n_done < 8, "no further score was to begin in the first generation of eight"
    whole = run(n_trials=12, fidelity="exact")
    assert seen(run(n_trials=12 - n_done, **one_by_one)) == seen(whole)


def test_an_interrupt_stores_what_is_scored(run: Search) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    storage = optuna.storages.InMemoryStorage()
    with pytest.raises(KeyboardInterrupt):
        run(n_trials=20, storage=storage, callback=at(11, interrupt))
    study = optuna.load_study(study_name="small", storage=storage)
    # Some more may have been scored while that came.
    assert 11 <= len(study.trials) < 20
    assert seen(study) == seen(run(n_trials=len(study.trials)))


def test_patience_does_not_depend_on_the_unit_of_an_indicator(
    run: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", {})

    def n_trials(unit: float) -> int:
        register_indicator("width", lambda model, _: model.num_features * len(model.blocks) * unit)
        study = run(n_trials=40, objectives=("width", "n_params"), patience=1)
        registry.METRICS.registered.clear()
        return len(study.trials)

    assert n_trials(1e-9) == n_trials(1.0) > 16


def test_the_front_in_hand_is_the_studys(run: Search, small_space: AutoFormerSpace) -> None:
    smallest = small_space.smallest()
    least = smallest.costs(img_size=32, num_classes=10).n_params
    reports: list[SearchProgress] = []
    # What is given to start from may be out of bounds, and would be the best otherwise.
    study = run(
        start=[smallest],
        objectives=COSTS,
        bounds={"n_params": (1.2 * least, None)},
        callback=reports.append,
    )
    front = {(candidate.n_params, candidate.macs) for candidate in pareto_front(study)}
    assert study.trials[0].values[0] == least
    assert reports[-1].front_size == len(front)
    settings = read_settings(study)
    measure = Hypervolume(settings, Meters(settings.costs, settings.space, settings.target))
    expected = measure(front)
    assert reports[-1].hypervolume == pytest.approx(expected)


def test_exactly_at_its_bound_is_within_it(run: Search, small_space: AutoFormerSpace) -> None:
    smallest = small_space.smallest()
    least = smallest.costs(img_size=32, num_classes=10).n_params
    reports: list[SearchProgress] = []
    study = run(
        n_trials=1,
        start=[smallest],
        objectives=COSTS,
        bounds={"n_params": (None, least)},
        callback=reports.append,
    )
    assert [c.architecture for c in pareto_front(study)] == [smallest]
    assert reports[-1].front_size == 1


def test_a_continued_search_begins_with_the_front_it_had(run: Search) -> None:
    storage = optuna.storages.InMemoryStorage()
    front = pareto_front(run(n_trials=11, storage=storage))
    reports: list[SearchProgress] = []
    run(n_trials=2, storage=storage, callback=reports.append)
    assert reports[0].front_size == len(front)
    assert reports[0].hypervolume > 0


def test_what_others_store_in_an_open_generation_is_counted_once(
    run: Search, small_space: AutoFormerSpace
) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = run(n_trials=8, storage=storage, objectives=COSTS)
    study.add_trial(optuna.create_trial(state=TrialState.FAIL))
    run(n_trials=3, storage=storage, objectives=COSTS)
    largest = small_space.largest()
    study.add_trial(
        optuna.create_trial(
            params=small_space.encode(largest),
            distributions=small_space.distributions(),
            values=list(largest.costs(img_size=32, num_classes=10)),
        )
    )
    reports: list[SearchProgress] = []
    study = run(n_trials=13, storage=storage, objectives=COSTS, callback=reports.append)
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(finished) == reports[-1].n_study == 8 + 3 + 1 + 13
    assert reports[0].n_study == 12


def test_replaced_proposals_are_counted_where_the_sampler_repeats_itself(
    small_space: AutoFormerSpace,
) -> None:
    few = dataclasses.replace(small_space, embed_dim=(32,), depth=(1,))
    reports: list[SearchProgress] = []
    search(
        few,
        n_trials=9,
        objectives=COSTS,
        sampler="random",
        callback=reports.append,
        **{**SIZES, "population_size": 9},
    )
    # Nine draws of nine are hardly ever nine different ones.
    assert reports[-1].n_replaced > 0 and reports[-1].n_repeated == 0


def test_what_is_new_is_no_repeat_though_no_bound_can_be_kept(
    run: Search, small_space: AutoFormerSpace
) -> None:
    least = small_space.smallest().costs(img_size=32, num_classes=10).n_params
    reports: list[SearchProgress] = []
    study = run(
        n_trials=8,
        objectives=COSTS,
        bounds={"n_params": (least + 0.25, least + 0.75)},
        callback=reports.append,
    )
    assert len({small_space.decode(trial.params) for trial in study.trials}) == 8
    assert reports[-1].n_repeated == 0
    assert pareto_front(study) == [] and reports[-1].front_size == 0


def test_a_bar_shows_trials_and_then_exact_scores(
    run: Search, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[SearchProgress] = []
    run(n_trials=6, n_exact=2, fidelity="collapsed", progress=True, callback=told.append)
    trials, _, exact = capsys.readouterr().err.partition("exact scores")
    assert re.search(r"small: 100%.* 6/6 .*front=\d+, hypervolume=", trials)
    assert re.search(r" 2/2 ", exact)
    assert repr(told[-1]).startswith("<SearchProgress: 6 of 6 trials, generation ")
    assert repr(told[-1]).endswith(" s, 2 of 2 exact>")
    run(n_trials=2)
    assert capsys.readouterr().err == ""
