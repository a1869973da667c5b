"""What is known of an architecture stays known, and what is not is found out."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from processes import at, grouped

from tftas_optuna import Architecture, register_cost, register_indicator, search
from tftas_optuna.metrics import registry
from tftas_optuna.scoring import pool as executors
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.place import place_of
from tftas_optuna.study.record import read_settings, write_settings

Search = Callable[..., optuna.Study]


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(registry.METRICS, "registered", {})


@pytest.fixture
def three(small_space: AutoFormerSpace) -> AutoFormerSpace:
    """A space of three architectures, so that they come again."""
    return dataclasses.replace(small_space, embed_dim=(32,), depth=(1,), mlp_ratio=(2.0,))


@pytest.fixture
def again(three: AutoFormerSpace, tmp_path: Path) -> Search:
    """Search the three architectures in one storage."""
    sizes = {"img_size": 32, "num_classes": 10, "population_size": 4}
    storage = f"sqlite:///{tmp_path}/study.db"
    return lambda **kwargs: search(three, **grouped({**sizes, "storage": storage, **kwargs}))


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[Architecture]]:
    """How often each architecture is scored."""
    score, found = executors.score, Counter[Architecture]()

    def count(home: Any, task: Any, archs: Any) -> Any:
        found.update(archs)
        return score(home, task, archs)

    monkeypatch.setattr(executors, "score", count)
    yield found


def test_a_continued_search_scores_nothing_again(
    again: Search, scored: Counter[Architecture]
) -> None:
    again(n_trials=3, n_exact=0)
    assert len(again(n_trials=9, n_exact=0).trials) == 12
    assert sorted(scored.values()) == [1, 1, 1]


def test_what_another_search_has_scored_is_not_scored_again(
    small_space: AutoFormerSpace, tmp_path: Path, scored: Counter[Architecture]
) -> None:
    nine = dataclasses.replace(small_space, embed_dim=(32,), depth=(1,))
    arguments = {"img_size": 32, "num_classes": 10, "population_size": 2, "sampler": "random"}
    arguments["n_exact"] = 0
    storage = f"sqlite:///{tmp_path}/study.db"
    other = at(2, lambda: search(nine, n_trials=9, storage=storage, **arguments))
    search(nine, n_trials=20, storage=storage, **arguments, callback=other)
    # All nine by the other search, and two generations before its trials are seen.
    assert len(scored) == 9 and sum(scored.values()) <= 9 + 4


def test_a_cut_off_generation_scores_only_what_it_lacks(
    run: Search, scored: Counter[Architecture]
) -> None:
    storage = optuna.storages.InMemoryStorage()
    for n_trials in (3, 2, 3):
        # Collapsed ones are scored together, so that the last digit never depends on the cuts.
        run(n_trials=n_trials, storage=storage, fidelity="exact")
    assert len(scored) == 8 and set(scored.values()) == {1}


@pytest.mark.parametrize("first", [True, False])
def test_an_indicator_that_foreign_trials_lack_is_scored_when_they_come_again(
    again: Search, three: AutoFormerSpace, first: bool
) -> None:
    arguments: dict[str, Any] = {"objectives": ("n_params", "macs"), "bounds": {"dss": (1, None)}}
    study = again(n_trials=1, **arguments)
    if first:
        settings = read_settings(study)
        arguments["storage"] = optuna.storages.InMemoryStorage()
        study = optuna.create_study(
            storage=arguments["storage"],
            study_name="small",
            directions=list(settings.directions),
        )
        write_settings(study, settings)
    for n_heads in (1, 2, 3):
        arch = dataclasses.replace(three.smallest(), num_heads=(n_heads,))
        study.add_trial(
            optuna.create_trial(
                params=three.encode(arch),
                distributions=three.distributions(),
                values=list(arch.costs(img_size=32, num_classes=10)),
            )
        )
    study = again(n_trials=12, **arguments)
    mine = [trial for trial in study.trials if place_of(trial) is not None]
    assert len(mine) == 12 + (not first)
    assert all(trial.user_attrs["dss"] > 0 and trial.constraints for trial in mine)


def test_of_a_cost_that_varies_the_first_value_stays(
    again: Search, three: AutoFormerSpace
) -> None:
    ticks = itertools.count(1)
    register_cost("wear", lambda arch, **_: next(ticks))
    for n_trials in (4, 8):
        study = again(n_trials=n_trials, objectives=("n_params", "wear"))
    values = {(three.decode(trial.params), trial.values[1]) for trial in study.trials}
    assert len(study.trials) == 12 and len(values) == 3


def test_scores_are_averaged_over_supernets(again: Search) -> None:
    register_indicator("loudness", lambda model, _: model.head.weight.sum().item())
    study = again(n_trials=3, objectives=("loudness", "n_params"), n_seeds=2)
    parts = [
        again(n_trials=3, objectives=("loudness", "n_params"), supernet_seed=s, study_name=str(s))
        for s in (0, 1)
    ]
    for trial, *ones in zip(study.trials, *(part.trials for part in parts), strict=True):
        assert trial.values[0] == pytest.approx(sum(one.values[0] for one in ones) / 2)
