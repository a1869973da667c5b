"""Killed at any moment, a search goes on to the study it would have been."""

from __future__ import annotations

import os
import random

import optuna
import pytest
from processes import seen, start

from tftas_optuna import TftasError
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.storage import load_study

N_KILLS = int(os.environ.get("TFTAS_TEST_KILLS", "6"))


def stored(storage: str) -> list[tuple[object, ...]]:
    try:
        return seen(load_study(storage))
    except (TftasError, KeyError):
        return []


@pytest.mark.slow
def test_killed_at_random_it_goes_on_to_the_same_study(
    small_space: AutoFormerSpace, storage: str, run: object
) -> None:
    moments = random.Random(0)
    description = small_space.to_dict()
    before: list[tuple[object, ...]] = []
    for _ in range(N_KILLS):
        process = start(description, 10_000, storage)
        process.join(moments.uniform(0.3, 1.8))
        assert process.is_alive()
        process.kill()
        process.join()
        after = stored(storage)
        assert after[: len(before)] == before
        before = after
    process = start(description, 20, storage)
    process.join()
    assert process.exitcode == 0
    after = stored(storage)
    assert before and len(after) == len(before) + 20
    assert after == seen(run(n_trials=len(after)))


@pytest.mark.parametrize("storage", ["sqlite", "postgresql"], indirect=True)
def test_two_searches_started_at_once_share_a_new_study(
    small_space: AutoFormerSpace, storage: str
) -> None:
    processes = [start(small_space.to_dict(), 40, storage) for _ in range(2)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    study = load_study(storage)
    assert [t.number for t in study.trials] == list(range(80))
    places = [tuple(t.system_attrs["tftas_optuna:place"]) for t in study.trials]
    assert set(places) == {(i, g, n) for i in (0, 1) for g in range(5) for n in range(8)}
    scores: dict[object, float] = {}
    for trial in study.trials:
        arch = small_space.decode(trial.params)
        assert scores.setdefault(arch, trial.values[0]) == trial.values[0]
    # Each knows what the other found, but what both try at the same moment.
    assert len(scores) > 60


def test_the_number_of_a_search_is_free_once_it_is_killed(
    small_space: AutoFormerSpace, storage: str
) -> None:
    process = start(small_space.to_dict(), 10_000, storage)
    while len(stored(storage)) < 16:
        process.join(0.05)
        assert process.is_alive()
    second = start(small_space.to_dict(), 8, storage)
    second.join(60)
    process.kill()
    process.join()
    third = start(small_space.to_dict(), 8, storage)
    third.join(60)
    trials = load_study(storage).trials
    islands = [t.system_attrs["tftas_optuna:place"][0] for t in trials]
    assert islands.count(1) == 8 and islands[-1] == 0
    assert optuna.trial.TrialState.RUNNING not in {t.state for t in trials}
