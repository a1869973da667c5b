"""Several searches that work on one study at the same time."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
import sqlalchemy
from optuna.storages import BaseStorage
from processes import KINDS, N_KILLS, PATIENCE, SIZES, at, start, stored

from tftas_optuna import search
from tftas_optuna.architecture import Architecture
from tftas_optuna.errors import UnavailableError
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study

Search = Callable[..., optuna.Study]
Storage = str | BaseStorage


@pytest.fixture
def known(small_space: AutoFormerSpace) -> list[Architecture]:
    """Architectures that several searches start from."""
    rng = np.random.default_rng(0)
    return [small_space.sample(rng) for _ in range(8)]


def check_distinct(study: optuna.Study, space: AutoFormerSpace, n_trials: int) -> None:
    assert [trial.number for trial in study.trials] == list(range(n_trials))
    assert len({space.decode(trial.params) for trial in study.trials}) == n_trials
    places = {tuple(trial.system_attrs["tftas_optuna:place"]) for trial in study.trials}
    assert len(places) == n_trials


def test_two_searches_started_at_once_share_a_new_study(
    small_space: AutoFormerSpace, storage: Storage
) -> None:
    processes = [start(small_space.to_dict(), 60, storage) for _ in range(2)]
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    check_distinct(load_study(storage), small_space, 120)


def test_two_searches_double_nothing_in_a_schema_that_nobody_knows(
    small_space: AutoFormerSpace, known: list[Architecture], unknown_schema: str
) -> None:
    processes = [
        start(small_space.to_dict(), 24, unknown_schema, start=known[first:]) for first in range(2)
    ]
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    check_distinct(load_study(unknown_schema), small_space, 48)


@pytest.mark.slow
@pytest.mark.timeout(120 + 30 * N_KILLS)
@pytest.mark.parametrize("storage", KINDS, indirect=True)
def test_two_searches_killed_at_random_double_and_lose_nothing(
    small_space: AutoFormerSpace, storage: Storage
) -> None:
    moments = random.Random(0)
    description = small_space.to_dict()
    processes = [start(description, 10_000, storage) for _ in range(2)]
    n_before = 0
    for kill in range(N_KILLS):
        i = moments.randrange(2)
        # Every other time something was stored meanwhile, however slow the machine is.
        while kill % 2 and len(stored(storage)) == n_before:
            processes[i].join(0.05)
            assert all(process.is_alive() for process in processes)
        processes[i].join(moments.uniform(0.1, 0.6))
        assert all(process.is_alive() for process in processes)
        processes[i].kill()
        processes[i].join()
        n_before = len(stored(storage))
        processes[i] = start(description, 10_000, storage)
    for process in processes:
        process.kill()
        process.join()
    last = start(description, 20, storage)
    last.join(PATIENCE)
    assert last.exitcode == 0
    n_trials = len(stored(storage))
    assert n_trials >= n_before + 20 > 20
    check_distinct(load_study(storage), small_space, n_trials)


@pytest.mark.parametrize("storage", KINDS, indirect=True)
def test_what_another_search_stores_meanwhile_is_not_stored_again(
    run: Search,
    small_space: AutoFormerSpace,
    known: list[Architecture],
    storage: str | BaseStorage,
) -> None:
    other = at(4, lambda: run(n_trials=12, storage=storage, start=known[2:]))
    last: list[SearchProgress] = []

    def callback(progress: SearchProgress) -> None:
        other(progress)
        last.append(progress)

    study = run(n_trials=20, storage=storage, start=known, callback=callback)
    check_distinct(study, small_space, 32)
    assert last[-1].n_done == 20 and last[-1].n_study == 32
    # A continued search makes nothing of the gaps.
    last.clear()
    check_distinct(run(n_trials=8, storage=storage, callback=callback), small_space, 40)
    assert last[-1].n_study == 40


@pytest.mark.parametrize("storage", KINDS, indirect=True)
def test_a_generation_that_another_search_has_stored_as_a_whole(
    run: Search,
    small_space: AutoFormerSpace,
    known: list[Architecture],
    storage: str | BaseStorage,
) -> None:
    other = at(4, lambda: run(n_trials=8, storage=storage, start=known))
    check_distinct(run(n_trials=12, storage=storage, start=known, callback=other), small_space, 20)
    check_distinct(run(n_trials=12, storage=storage, start=known), small_space, 32)


@pytest.mark.parametrize("storage", KINDS, indirect=True)
def test_what_another_search_stored_before_a_stop_is_not_stored_again(
    run: Search,
    small_space: AutoFormerSpace,
    known: list[Architecture],
    storage: str | BaseStorage,
) -> None:
    other = at(12, lambda: run(n_trials=8, storage=storage, start=known))
    run(n_trials=16, storage=storage, callback=other)
    check_distinct(run(n_trials=8, storage=storage, start=known), small_space, 32)


@pytest.mark.parametrize("storage", KINDS, indirect=True)
def test_a_generation_with_a_gap_is_gone_on_with(
    run: Search,
    small_space: AutoFormerSpace,
    known: list[Architecture],
    storage: str | BaseStorage,
) -> None:
    # A screened search would put other architectures first.
    arguments = {"storage": storage, "sampler": "nsgaii"}
    other = at(12, lambda: run(n_trials=8, start=known[:1], **arguments))
    run(n_trials=16, callback=other, **arguments)

    def stop(progress: SearchProgress) -> None:
        if progress.generation == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(n_trials=16, start=known[:1], callback=stop, **arguments)
    check_distinct(load_study(storage), small_space, 16 + 8 + 7)
    check_distinct(run(n_trials=16, start=known[:1], **arguments), small_space, 31 + 16)


def test_a_generation_that_is_gone_for_no_reason_is_refused(
    run: Search, known: list[Architecture], tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    other = at(4, lambda: run(n_trials=8, storage=storage, start=known))
    run(n_trials=16, storage=storage, callback=other)
    with sqlalchemy.create_engine(storage).begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "UPDATE trial_system_attributes SET value_json = replace(value_json, '[0, 1,',"
                " '[0, 2,') WHERE key = 'tftas_optuna:place'"
            )
        )
    with pytest.raises(UnavailableError, match="lacks generation 1 of 3; give another --study"):
        run(n_trials=8, storage=storage)


def test_two_searches_use_up_a_space_and_end(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    few = dataclasses.replace(small_space, embed_dim=(32,), depth=(1,))
    assert few.cardinality() == 9
    kwargs = {"n_trials": 24, "storage": f"sqlite:///{tmp_path}/study.db", **SIZES}
    other = at(4, lambda: search(few, **kwargs))
    study = search(few, **kwargs, callback=other)
    assert [trial.number for trial in study.trials] == list(range(48))
    archs = [few.decode(trial.params) for trial in study.trials]
    assert len(set(archs)) == len(set(archs[:9])) == 9


@pytest.mark.parametrize("storage", KINDS, indirect=True)
def test_the_number_of_a_search_is_free_once_it_is_killed(
    small_space: AutoFormerSpace, storage: Storage
) -> None:
    process = start(small_space.to_dict(), 10_000, storage)
    while len(stored(storage)) < 16:
        process.join(0.05)
        assert process.is_alive()
    second = start(small_space.to_dict(), 8, storage)
    second.join(PATIENCE)
    process.kill()
    process.join()
    third = start(small_space.to_dict(), 8, storage)
    third.join(PATIENCE)
    trials = load_study(storage).trials
    islands = [t.system_attrs["tftas_optuna:place"][0] for t in trials]
    assert islands.count(1) == 8 and islands[-1] == 0
    assert optuna.trial.TrialState.RUNNING not in {t.state for t in trials}
