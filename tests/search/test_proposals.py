from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import optuna
import pytest
from processes import SIZES

from tftas_optuna import TftasError, pareto_front, search
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.spaces import AutoFormerSpace

Search = Callable[..., optuna.Study]


def architectures(study: optuna.Study, space: AutoFormerSpace) -> list[object]:
    return [space.decode(trial.params) for trial in study.trials]


@pytest.mark.parametrize("sampler", ["nsgaii", "random"])
def test_no_architecture_is_tried_twice(
    run: Search, small_space: AutoFormerSpace, sampler: str
) -> None:
    reports: list[SearchProgress] = []
    study = run(n_trials=160, sampler=sampler, callback=reports.append)
    assert len(set(architectures(study, small_space))) == 160
    assert reports[-1].n_repeated == 0
    assert reports[-1].n_replaced > 0


@pytest.mark.parametrize("sampler", ["nsgaii", "random"])
def test_only_the_search_is_announced(
    run: Search, sampler: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    try:
        run(n_trials=20, sampler=sampler, study_name="mine")
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(before)
    announced = {text for text in caplog.messages if "study created" in text}
    assert announced == {"A new study created in memory with name: mine"}


def test_a_space_that_is_used_up_repeats_and_counts(small_space: AutoFormerSpace) -> None:
    few = dataclasses.replace(small_space, embed_dim=(32,), depth=(1,))
    assert few.cardinality() == 9
    reports: list[SearchProgress] = []
    study = search(few, n_trials=24, **SIZES, callback=reports.append)
    assert set(architectures(study, few)[:9]) == set(architectures(study, few))
    assert reports[-1].n_repeated == 15
    values = {
        arch: t.values for arch, t in zip(architectures(study, few), study.trials, strict=True)
    }
    assert all(values[few.decode(t.params)] == t.values for t in study.trials)


def test_a_narrow_band_is_filled(run: Search) -> None:
    low, high = 56e3, 66e3
    study = run(n_trials=200, population_size=20, bounds={"n_params": (low, high)})
    inside = [t for t in study.trials if low <= t.values[1] <= high]
    assert len(inside) >= 190
    front = pareto_front(study)
    assert len(front) >= 5
    sizes = [candidate.n_params for candidate in front]
    assert max(sizes) - min(sizes) > 0.8 * (high - low)


def test_what_to_start_from_is_the_first_generation(
    run: Search, small_space: AutoFormerSpace
) -> None:
    wide = dataclasses.replace(small_space, embed_dim=(64,))
    rng = np.random.default_rng(0)
    start = [wide.sample(rng) for _ in range(8)]
    study = run(n_trials=16, start=start, sampler="nsgaii")
    assert architectures(study, small_space)[:8] == start
    assert {t.system_attrs["NSGAIISampler:generation"] for t in study.trials[:8]} == {0}
    # All parents are 64 wide, so are their children, but for a mutation now and then.
    assert sum(trial.params["embed_dim"] == 64 for trial in study.trials[8:]) >= 6
    outside = dataclasses.replace(small_space.largest(), embed_dim=40)
    with pytest.raises(TftasError, match="embed_dim"):
        run(start=[outside])


@pytest.mark.parametrize(
    ("sampler", "parts"),
    [
        *((sampler, (11, 5, 14)) for sampler in ("nsgaii", "nsgaiii", "tpe", "random")),
        # After ten at random it thinks for a second each.
        ("gp", (11, 1, 2)),
    ],
)
def test_other_samplers_resume_exactly_too(
    run: Search, tmp_path: object, sampler: str, parts: tuple[int, int, int]
) -> None:
    whole = run(n_trials=sum(parts), sampler=sampler)
    storage = f"sqlite:///{tmp_path}/parts.db"
    # The sampler of a study goes on with it, where no other is asked for.
    for n_trials, asked in zip(parts, (sampler, sampler, None), strict=True):
        study = run(n_trials=n_trials, sampler=asked, storage=storage)
    assert [(t.params, t.values) for t in study.trials] == [
        (t.params, t.values) for t in whole.trials
    ]
    with pytest.raises(TftasError, match=f"made with sampler {sampler}, not screened-nsgaii;"):
        run(storage=storage, sampler="screened-nsgaii")


def test_sampler_objects(run: Search) -> None:
    crossover = optuna.samplers.nsgaii.UniformCrossover(swapping_prob=0.2)
    sampler = optuna.samplers.NSGAIISampler(population_size=6, crossover=crossover, seed=3)
    study = run(n_trials=18, sampler=sampler)
    generations = [t.system_attrs["NSGAIISampler:generation"] for t in study.trials]
    assert generations == [0] * 6 + [1] * 6 + [2] * 6
    assert run(n_trials=4, sampler=optuna.samplers.QMCSampler(seed=0)).trials
    with pytest.raises(TftasError, match="sampler 'nope' does not exist; known: screened"):
        run(sampler="nope")


def test_patience_ends_a_search_that_stalls(small_space: AutoFormerSpace, run: Search) -> None:
    few = dataclasses.replace(small_space, embed_dim=(32,), depth=(1,))
    study = search(few, n_trials=10_000, patience=3, **SIZES)
    assert 24 <= len(study.trials) <= 64
    assert len(run(n_trials=48, patience=100).trials) == 48
    with pytest.raises(TftasError, match="patience is 0"):
        run(patience=0)
