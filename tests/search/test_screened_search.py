"""Searches whose sampler nobody asked for: NSGA-II with a screen that knows the costs."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import tower
from processes import SIZES, at, grouped, seen
from releases import ROUNDS_OTHERWISE

from tftas_optuna import TftasError, UnavailableError, register_indicator, search
from tftas_optuna.architecture.parts import FAMILIES
from tftas_optuna.cli._progress import ProgressDisplay
from tftas_optuna.families import register_family
from tftas_optuna.metrics import Meters, registry
from tftas_optuna.samplers import PREDICTED, Known, make_sampler, screen
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.spaces import AutoFormerSpace, PiTSpace, SearchSpace
from tftas_optuna.study.knowledge import ArchitectureKnowledge
from tftas_optuna.study.record import read_settings

Search = Callable[..., optuna.Study]
COSTS = ("n_params", "macs")


@pytest.fixture(autouse=True)
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know one more family and one more indicator, and forget them again."""
    monkeypatch.setattr(FAMILIES, "registered", {})
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_family(tower.family)
    register_indicator("width", lambda model, _: float(model.num_features))


def pit() -> PiTSpace:
    return PiTSpace(
        name="pits",
        base_dim=(4, 8),
        depth=((1, 2), (1, 2), (1,)),
        num_heads=(1, 2),
        mlp_ratio=(2.0, 4.0),
        patch_size=8,
        stride=4,
        img_size=32,
        num_classes=10,
    )


def shared_heads() -> AutoFormerSpace:
    return AutoFormerSpace.from_dict(
        {
            "name": "shared",
            "family": "autoformer",
            "embed_dim": [24, 48],
            "depth": [1, 2, 3],
            "num_heads": [1, 2, 3],
            "mlp_ratio": [1.0, 2.0, 4.0],
            "shared": ["num_heads"],
            "patch_size": 8,
        }
    )


def towers() -> tower.TowerSpace:
    return tower.TowerSpace("towers", (8, 10, 12, 14, 16, 18, 20, 24), (1, 2, 3), img_size=8)


class Interrupted(Exception):
    pass


def interrupt() -> None:
    raise Interrupted


CASES: dict[str, tuple[Callable[[], SearchSpace] | None, dict[str, Any]]] = {
    "usual": (None, {}),
    "two workers": (None, {}),
    "collapsed": (None, {"fidelity": "collapsed"}),
    "three objectives": (None, {"objectives": ("dss", "n_params", "macs")}),
    "one objective": (None, {"objectives": ("dss",)}),
    "bounds": (None, {"bounds": {"n_params": (40e3, 90e3), "width": (40, None)}}),
    "costs alone": (None, {"objectives": COSTS}),
    "shared heads": (shared_heads, {}),
    "pit": (pit, {}),
    "third-party": (towers, {"img_size": 8}),
}


@pytest.mark.usefixtures("quick_workers")
@pytest.mark.parametrize("case", CASES)
def test_in_parts_and_interrupted_it_is_the_same_study(
    small_space: AutoFormerSpace, case: str
) -> None:
    make, changes = CASES[case]
    space = small_space if make is None else make()

    def run(n_trials: int, **kwargs: object) -> optuna.Study:
        return search(space, **grouped({"n_trials": n_trials, **SIZES, **changes, **kwargs}))

    whole = run(28)
    assert any(PREDICTED in trial.system_attrs for trial in whole.trials[16:])
    storage = optuna.storages.InMemoryStorage()
    run(11, storage=storage)
    with pytest.raises(Interrupted):
        workers = {"workers": 2} if case == "two workers" else {}
        run(17, storage=storage, callback=at(7, interrupt), **workers)
    n_left = 28 - len(optuna.load_study(study_name=space.name, storage=storage).trials)
    assert 0 < n_left <= 10
    run(1, storage=storage)
    if n_left > 1:
        run(n_left - 1, storage=storage)
    study = optuna.load_study(study_name=space.name, storage=storage)
    assert seen(study) == seen(whole)


def test_what_is_known_is_not_predicted(run: Search) -> None:
    study = run(n_trials=24)
    found = [t.system_attrs[PREDICTED] for t in study.trials if PREDICTED in t.system_attrs]
    assert len(found) >= 8
    assert all(dss is not None and n_params is None for dss, n_params in found)


def test_progress_tells_how_well_the_screen_ranks(run: Search) -> None:
    reports: list[SearchProgress] = []
    run(n_trials=40, callback=reports.append)
    # The second generation is predicted only once ten trials are there.
    assert all(p.screen is None for p in reports if p.generation <= 2)
    assert all(p.screen is not None and p.screen > 0.5 for p in reports if p.generation > 3)


def test_other_samplers_have_no_screen(run: Search) -> None:
    reports: list[SearchProgress] = []
    run(n_trials=24, sampler="nsgaii", objectives=COSTS, callback=reports.append)
    assert all(p.screen is None for p in reports)


@pytest.mark.parametrize(
    ("agreement", "shown"),
    [
        (None, None),
        (0.456, "screen 0.46"),
        (0.1, "screen 0.10 (off)"),
        (-0.5, "screen -0.50 (off)"),
    ],
)
def test_the_display_shows_the_screen_and_that_it_is_off(
    agreement: float | None, shown: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    display = ProgressDisplay("a search", 10, quiet=False)
    display.update(SearchProgress(5, 10, 5, 1, 1.0, 0.5, 3, 1.5, screen=agreement))
    display.close()
    said = capsys.readouterr().err
    assert "hypervolume 1.5" in said
    assert ("screen" not in said) if shown is None else said.strip().endswith(shown)


def test_a_study_goes_on_as_it_was_made_when_nobody_asks(run: Search) -> None:
    storage = optuna.storages.InMemoryStorage()
    asked = {"storage": storage, "objectives": COSTS, "population_size": None}
    run(n_trials=5, **{**asked, "sampler": "nsgaii", "population_size": 6})
    study = run(n_trials=13, **asked)
    settings = read_settings(study)
    assert (settings.sampler, settings.population_size) == ("nsgaii", 6)
    generations = [trial.system_attrs["NSGAIISampler:generation"] for trial in study.trials]
    assert generations == [i // 6 for i in range(18)]
    assert not any(PREDICTED in trial.system_attrs for trial in study.trials)
    whole = run(n_trials=18, objectives=COSTS, sampler="nsgaii", population_size=6)
    assert seen(study) == seen(whole)


@pytest.mark.parametrize(
    ("sampler", "size"), [(None, 20), ("nsgaii", 50), ("random", 50), ("gp", 1)]
)
def test_a_generation_has_its_usual_size(run: Search, sampler: str | None, size: int) -> None:
    study = run(n_trials=2, sampler=sampler, objectives=COSTS, population_size=None)
    assert study.user_attrs["population_size"] == size
    assert study.user_attrs["sampler"] == (sampler or "screened-nsgaii")


def test_a_study_with_another_size_is_not_continued(run: Search) -> None:
    storage = optuna.storages.InMemoryStorage()
    run(n_trials=2, objectives=COSTS, storage=storage)
    with pytest.raises(UnavailableError, match="population size 8, not 20"):
        run(n_trials=2, objectives=COSTS, storage=storage, population_size=20)
    with pytest.raises(UnavailableError, match="sampler screened-nsgaii, not nsgaii"):
        run(n_trials=2, objectives=COSTS, storage=storage, sampler="nsgaii")


def test_the_smallest_and_the_largest_are_tried_first(
    run: Search, small_space: AutoFormerSpace
) -> None:
    given = small_space.sample(np.random.default_rng(3))
    study = run(n_trials=4, objectives=COSTS, start=[given])
    archs = [small_space.decode(trial.params) for trial in study.trials]
    assert archs[:3] == [given, small_space.smallest(), small_space.largest()]


@pytest.mark.parametrize(
    ("bounds", "excluded"),
    [
        ({"n_params": (None, 9e4)}, "largest"),
        ({"n_params": (4e4, None)}, "smallest"),
        ({"macs": (0.5e6, 2e6)}, "both"),
    ],
)
def test_ends_that_bounds_exclude_are_not_tried(
    run: Search, small_space: AutoFormerSpace, bounds: dict[str, Any], excluded: str
) -> None:
    study = run(n_trials=20, objectives=COSTS, bounds=bounds)
    archs = [small_space.decode(trial.params) for trial in study.trials]
    assert (small_space.smallest() == archs[0]) == (excluded == "largest")
    assert (small_space.largest() in archs) == (excluded == "smallest")
    assert all(value <= 0 for t in study.trials for value in t.constraints.values())


def test_other_samplers_do_not_begin_at_the_ends(
    run: Search, small_space: AutoFormerSpace
) -> None:
    study = run(n_trials=2, objectives=COSTS, sampler="random")
    ends = small_space.smallest(), small_space.largest()
    assert not {small_space.decode(t.params) for t in study.trials} & set(ends)


def test_gp_without_scipy_says_what_to_install(
    run: Search, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def missing(*args: object, **kwargs: object) -> object:
        raise ModuleNotFoundError("No module named 'scipy'")

    monkeypatch.setattr("tftas_optuna.samplers.named.GPSampler", missing)
    with pytest.raises(
        UnavailableError, match=r"'gp' needs SciPy; pip install 'tftas-optuna\[gp\]'"
    ):
        run(sampler="gp", storage=f"sqlite:///{tmp_path}/study.db")
    assert list(tmp_path.iterdir()) == []


def test_a_sampler_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TftasError, match="'tape' does not exist; did you mean 'tpe'"):
        make_sampler("tape", 20, 0)


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsgaiii", "random", "nsgaii"])
def test_samplers_are_taken_by_name(run: Search, sampler: str) -> None:
    study = run(n_trials=5, sampler=sampler, objectives=COSTS, population_size=2)
    assert study.user_attrs["sampler"] == sampler and len(study.trials) == 5


@pytest.fixture
def knowledge(run: Search) -> ArchitectureKnowledge:
    bounds = {"n_params": (None, 9e4), "width": (40, None)}
    settings = read_settings(run(n_trials=1, bounds=bounds))
    return ArchitectureKnowledge(settings, Meters(settings.costs, settings.space, settings.target))


def test_costs_and_their_bounds_are_known(
    knowledge: ArchitectureKnowledge, small_space: AutoFormerSpace
) -> None:
    for arch in (small_space.smallest(), small_space.largest()):
        known: Known = knowledge(small_space.encode(arch))
        n_params = arch.costs(img_size=32, num_classes=10).n_params
        assert known.objectives == {1: n_params}
        assert known.constraints == {"n_params_max": pytest.approx(n_params / 9e4 - 1)}
        assert tuple(known.features) == small_space.features(arch)


def front_of(space: AutoFormerSpace, seed: int, **kwargs: Any) -> float:
    """Give the hypervolume after 48 trials."""
    reports: list[SearchProgress] = []
    search(
        space,
        **grouped({"n_trials": 48, "seed": seed, "supernet_seed": 0, **SIZES, **kwargs}),
        callback=reports.append,
    )
    return reports[-1].hypervolume


def test_it_beats_nsga_ii_at_equal_trials(small_space: AutoFormerSpace) -> None:
    # The screened search begins at both ends; so does the other one here.
    ends = [small_space.smallest(), small_space.largest()]
    for seed in range(3):
        found = front_of(small_space, seed)
        plain = front_of(small_space, seed, sampler="nsgaii", start=ends)
        assert found > 1.06 * plain
        # All that there is: what ten times as many trials find.
        assert found > (0.94 if ROUNDS_OTHERWISE else 0.98) * 44.15


def test_while_its_screen_is_off_it_is_as_good_as_nsga_ii(
    small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "TRUSTED", 2.0)
    ends = [small_space.smallest(), small_space.largest()]
    asked: dict[str, Any] = {"n_trials": 144, "start": ends}
    found, plain, random = 0.0, 0.0, 0.0
    for seed in range(2):
        found += front_of(small_space, seed, **asked)
        plain += front_of(small_space, seed, sampler="nsgaii", **asked)
        random += front_of(small_space, seed, sampler="random", **asked)
    # Parents of both are the best, not the oldest.
    assert found > 0.97 * plain and plain > 1.05 * random


def test_it_learns_of_the_trials_of_others(
    run: Search, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    asked = {"storage": f"sqlite:///{tmp_path}/study.db", "population_size": 10}
    run(n_trials=20, callback=at(10, lambda: run(n_trials=10, **asked)), **asked)
    study = run(n_trials=10, **asked)
    archs = [small_space.decode(trial.params) for trial in study.trials]
    assert len(archs) == 40 and len(set(archs)) >= 38


def test_a_used_up_space_is_searched_to_its_end(small_space: AutoFormerSpace) -> None:
    few = dataclasses.replace(small_space, embed_dim=(32, 48), depth=(1,))
    reports: list[SearchProgress] = []
    arguments = grouped({**SIZES, "n_trials": 22, "callback": reports.append})
    study = search(few, objectives=COSTS, **arguments)
    archs = [few.decode(trial.params) for trial in study.trials]
    assert len(set(archs[:18])) == few.cardinality() == 18
    assert reports[-1].n_repeated == 4


def test_two_bounds_count_before_anything_is_scored(
    small_space: AutoFormerSpace, run: Search
) -> None:
    bounds = {"n_params": (5e4, 7e4)}
    study = run(n_trials=40, bounds=bounds)
    assert all(5e4 <= t.values[1] <= 7e4 for t in study.trials)


def test_seeds_differ_though_supernets_do_not(run: Search) -> None:
    one, other = (run(n_trials=24, objectives=COSTS, seed=seed) for seed in (1, 2))
    assert [t.params for t in one.trials[:2]] == [t.params for t in other.trials[:2]]
    same = sum(a.params == b.params for a, b in zip(one.trials, other.trials, strict=True))
    assert same < 8


def test_knowledge_travels_with_what_was_measured(
    knowledge: ArchitectureKnowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = {"latency": {"measured": 1}}
    monkeypatch.setattr(Meters, "records", property(lambda self: records))
    seen: list[object] = []

    def made(*args: object) -> Meters:
        seen.append(args[-1])
        return Meters(*args[:3])  # type: ignore[arg-type]

    monkeypatch.setattr("tftas_optuna.study.knowledge.Meters", made)
    again = pickle.loads(pickle.dumps(knowledge))
    assert seen == [records]
    params = again._space.encode(again._space.smallest())
    assert again(params) == knowledge(params)
