from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial
from processes import grouped

from tftas_optuna import DSSObjective, Scorer, TftasError, pareto_front, search
from tftas_optuna.devices import one_thread
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.record import read_settings

Search = Callable[..., optuna.Study]
DEFAULTS: dict[str, object] = dict(n_trials=20, population_size=8, img_size=32, num_classes=10)


@pytest.fixture
def run(small_space: AutoFormerSpace) -> Search:
    def run(**kwargs: object) -> optuna.Study:
        return search(small_space, **grouped({**DEFAULTS, **kwargs}))

    return run


def seen(study: optuna.Study) -> list[tuple[object, ...]]:
    return [
        (t.number, t.params, t.values, t.user_attrs, t.system_attrs, t.state) for t in study.trials
    ]


def test_same_seed_same_study(run: Search) -> None:
    assert seen(run(seed=3)) == seen(run(seed=3))
    assert seen(run(seed=3)) != seen(run(seed=4))


def test_in_parts_or_at_once_is_the_same_study(run: Search, tmp_path: Path) -> None:
    whole = seen(run(n_trials=20))
    for number, parts in enumerate([[8, 12], [1, 1, 18], [13, 6, 1]]):
        for n_trials in parts:
            study = run(n_trials=n_trials, storage=f"sqlite:///{tmp_path}/{number}.db")
        assert seen(study) == whole


def test_spreads_over_seeds_survive_a_stop(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    # Three architectures only, so those scored before the stop come again after it.
    few = dataclasses.replace(small_space, embed_dim=(32,), depth=(1,), mlp_ratio=(2.0,))
    for n_trials in (3, 9):
        study = search(
            few,
            n_trials=n_trials,
            n_seeds=2,
            population_size=4,
            img_size=32,
            storage=f"sqlite:///{tmp_path}/parts.db",
        )
    assert all(trial.user_attrs["dss_sd"] > 0 for trial in study.trials)


def test_interrupted_anywhere_it_goes_on_to_the_same_study(run: Search, tmp_path: Path) -> None:
    whole = run(n_trials=20)
    storage = f"sqlite:///{tmp_path}/killed.db"
    stops = iter([3, 9, 1])
    while (
        len(
            optuna.load_study(study_name="small", storage=storage).trials
            if Path(f"{tmp_path}/killed.db").exists()
            else []
        )
        < 20
    ):
        stop = next(stops, 20)

        def interrupt(progress: SearchProgress, stop: int = stop) -> None:
            if progress.n_done == stop:
                raise KeyboardInterrupt

        try:
            study = run(n_trials=20, storage=storage, callback=interrupt)
        except KeyboardInterrupt:
            study = optuna.load_study(study_name="small", storage=storage)
    assert seen(study)[:20] == seen(whole)


def test_values_are_the_scorers_and_the_closed_forms(
    run: Search, small_space: AutoFormerSpace
) -> None:
    study = run(n_trials=10, seed=5, fidelity="exact")
    scorer = Scorer(small_space, seed=5, img_size=32, num_classes=10)
    for trial in study.trials:
        arch = small_space.decode(trial.params)
        costs = arch.costs(img_size=32, num_classes=10)
        with one_thread(scorer.device):  # as a search does; sums have an order
            assert trial.values == [scorer(arch), costs.n_params]
        assert trial.user_attrs == {"macs": costs.macs}
        assert trial.datetime_start < trial.datetime_complete


def test_a_supernet_has_a_seed_of_its_own(run: Search, small_space: AutoFormerSpace) -> None:
    study = run(n_trials=3, seed=5, supernet_seed=0, fidelity="exact")
    scorer = Scorer(small_space, seed=0, img_size=32, num_classes=10)
    for trial in study.trials:
        with one_thread(scorer.device):
            assert trial.values[0] == scorer(small_space.decode(trial.params))
    assert (study.user_attrs["seed"], study.user_attrs["supernet_seed"]) == (5, 0)
    assert [t.params for t in study.trials] == [t.params for t in run(n_trials=3, seed=5).trials]


def test_later_generations_descend_from_the_best(run: Search) -> None:
    study = run(n_trials=40)
    generations = [t.system_attrs["ScreenedNSGAIISampler:generation"] for t in study.trials]
    assert generations == [i // 8 for i in range(40)]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]


def test_bounds_become_constraints_that_optuna_and_the_dashboard_read(run: Search) -> None:
    study = run(n_trials=40, bounds={"n_params": (30e3, 90e3), "macs": (None, 1.5e6)})
    for trial in study.trials:
        n_params, macs = trial.values[1], trial.user_attrs["macs"]
        assert trial.constraints["n_params_max"] == pytest.approx(n_params / 90e3 - 1)
        assert trial.constraints["n_params_min"] == pytest.approx(1 - n_params / 30e3)
        assert trial.constraints["macs_max"] == pytest.approx(macs / 1.5e6 - 1)
        named = [trial.constraints[k] for k in ("n_params_max", "n_params_min", "macs_max")]
        assert trial.system_attrs["constraints"] == named
    front = pareto_front(study)
    assert front and all(30e3 <= c.n_params <= 90e3 and c.macs <= 1.5e6 for c in front)
    assert {c.trial for c in front} <= {t.number for t in study.best_trials}


def test_the_study_says_what_made_it(run: Search, small_space: AutoFormerSpace) -> None:
    study = run(n_trials=2, seed=9, bounds={"n_params": (None, 9e4)})
    assert study.metric_names == ["dss_collapsed", "n_params"]
    attributes = study.user_attrs
    assert attributes["space"] == "small" and attributes["seed"] == 9
    assert (
        attributes["objectives"] == ["dss", "n_params"] and attributes["fidelity"] == "collapsed"
    )
    assert attributes["supernet_seed"] == 9
    assert attributes["img_size"] == 32 and attributes["num_classes"] == 10
    assert set(attributes["versions"]) == {"tftas-optuna", "optuna", "torch", "timm"}
    settings = read_settings(study)
    assert settings.space == small_space
    assert settings.bounds == {"n_params": (None, 9e4)}


@pytest.fixture(scope="module")
def made(small_space: AutoFormerSpace, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A storage with a study of three trials, which no test adds to."""
    storage = f"sqlite:///{tmp_path_factory.mktemp('made')}/study.db"
    search(small_space, storage=storage, **grouped({**DEFAULTS, "n_trials": 3}))
    return storage


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "made with seed 0, not 1"),
        ({"img_size": 64}, "made with img size 32, not 64"),
        ({"num_classes": 3}, "made with num classes 10, not 3"),
        ({"population_size": 4}, "made with population size 8, not 4"),
        ({"bounds": {"n_params": (None, 9e4)}}, "made with bounds none, not n_params <= 90.00k"),
        (
            {"bounds": {"n_params": (3e4, 9e4)}},
            "not n_params >= 30.00k, n_params <= 90.00k",
        ),
        ({"objectives": ("dss", "macs")}, "optimises dss, n_params, not dss, macs"),
    ],
)
def test_other_settings_do_not_continue_a_study(
    run: Search, made: str, change: dict[str, object], message: str
) -> None:
    before = seen(optuna.load_study(study_name="small", storage=made))
    with pytest.raises(TftasError, match=message):
        run(n_trials=3, storage=made, **change)
    assert seen(optuna.load_study(study_name="small", storage=made)) == before


def test_a_plain_optuna_run_goes_on_with_the_study_and_back(
    run: Search, small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    run(n_trials=8, storage=storage, sampler="nsgaii")
    sampler = optuna.samplers.NSGAIISampler(population_size=8, seed=1)
    study = optuna.load_study(study_name="small", storage=storage, sampler=sampler)
    scorer = Scorer(small_space, img_size=32, num_classes=10)
    study.optimize(DSSObjective(small_space, scorer=scorer), n_trials=4)
    study.enqueue_trial(small_space.encode(small_space.largest()))
    study.sampler = optuna.samplers.RandomSampler(seed=0)
    study.optimize(DSSObjective(small_space, scorer=scorer), n_trials=2)
    study = run(n_trials=10, storage=storage)
    assert len(study.trials) == 24
    assert [t.number for t in study.trials] == list(range(24))
    generations = [t.system_attrs.get("NSGAIISampler:generation") for t in study.trials]
    assert generations[:12] == [0] * 8 + [1] * 4 and generations[14:18] == [1] * 4
    assert pareto_front(study)[-1].architecture == small_space.largest()


def test_progress_and_timeout(run: Search) -> None:
    reports: list[SearchProgress] = []
    run(n_trials=20, callback=reports.append)
    assert [p.n_done for p in reports if p.n_done][-1] == 20 and reports[0].n_done == 0
    assert reports[-1].n_study == 20 and reports[-1].front_size > 0
    assert 0 < reports[-1].scoring_seconds <= reports[-1].seconds
    assert reports[-1].hypervolume > 0
    assert len(run(n_trials=10_000, timeout=1e-9).trials) <= 1


def test_cut_off_before_its_settings_were_written_it_starts_anew(run: Search) -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(
        storage=storage, study_name="small", directions=["maximize", "minimize"]
    ).set_user_attr("space", "small")
    assert seen(run(n_trials=3, storage=storage)) == seen(run(n_trials=3))


def test_a_long_study_is_resumed_without_recursion(
    run: Search, tmp_path: Path, small_space: AutoFormerSpace
) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = run(n_trials=2, storage=storage, population_size=2, sampler="nsgaii")
    trial: FrozenTrial = study.trials[0]
    for generation in range(1, 500):
        for i in range(2):
            study.add_trial(
                optuna.create_trial(
                    params=trial.params,
                    distributions=trial.distributions,
                    values=trial.values,
                    system_attrs={"tftas_optuna:place": [0, generation, i]},
                )
            )
    study = run(n_trials=2, storage=storage, population_size=2, sampler="nsgaii")
    assert study.trials[-1].system_attrs["NSGAIISampler:generation"] == 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_trials": 0}, "n_trials is 0, allowed is 1 or more"),
        ({"study_name": "gr\udcc3"}, "is no text in the locale of this process"),
        ({"population_size": 1}, "population_size is 1, allowed is 2 or more"),
        ({"objectives": ("dss", "beauty")}, "objective 'beauty' does not exist; known: "),
        ({"objectives": ()}, "objectives are none"),
        ({"n_seeds": 0}, "n_seeds is 0, allowed is 1 or more"),
        ({"sampler": "nope"}, "sampler 'nope' does not exist"),
        ({"fidelity": "vague"}, "fidelity 'vague'"),
        (
            {"fidelity": "collapsed", "objectives": ("n_params", "macs")},
            "fidelity 'collapsed' does not apply: this study computes no indicator",
        ),
        ({"bounds": {"n_params": (None, 1e3)}}, "at most 1.00k excludes every architecture"),
        ({"bounds": {"n_params": (1e9, None)}}, "at least 1.00G excludes every architecture"),
        ({"bounds": {"n_params": (2e5, 1e5)}}, "the lower bound is higher"),
        ({"bounds": {"n_params": (-1, None)}}, "is -1, allowed is above 0"),
        ({"bounds": {"energy": (None, 1)}}, "cannot bound 'energy'"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
        ({"img_size": 4}, "img_size 4 is smaller than one patch"),
    ],
)
def test_bad_arguments_create_nothing(
    run: Search, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(TftasError, match=message):
        run(storage=f"sqlite:///{tmp_path}/study.db", **change)
    assert list(tmp_path.iterdir()) == []
