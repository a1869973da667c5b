"""What a training leaves in the study that its network comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from optuna_dashboard import get_note

from tftas_optuna import search
from tftas_optuna.retrain import load_recipe, recorded
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.network import Network, candidate_network
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import accuracies, record_shared
from tftas_optuna.study.front import get_candidate
from tftas_optuna.study.notes import write_trial_notes
from tftas_optuna.study.record import read_settings

Train = Callable[..., dict[str, Any]]


@pytest.fixture
def url(small_space: AutoFormerSpace, tmp_path: Path) -> str:
    """A study of three trials in SQLite."""
    url = f"sqlite:///{tmp_path}/a.db"
    search(small_space, n_trials=3, objectives=("n_params",), storage=url, study_name="s")
    return url


@pytest.fixture
def train(url: str, tiny: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Pretend to train a trial: ``train(trial, top1, record=..., **recipe values)``."""

    def pretend(trial: int, top1: float, record: bool = True, **values: Any) -> dict[str, Any]:
        result = {"top1": top1, "loss": 1.0}
        monkeypatch.setattr(recorded, "train_network", lambda *args, **how: result)
        return recorded.train_and_record(
            tiny,
            load_recipe("quick", values),
            DataSource(tmp_path),
            tmp_path,
            world=World(torch.device("cpu")),
            study=optuna.load_study(study_name="s", storage=url),
            trial=trial,
            record=record,
        )

    return pretend


def read(url: str) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=url)


def sortable(url: str) -> dict[int, float]:
    """The accuracies that optuna-dashboard sorts by."""
    trials = read(url).trials
    return {t.number: t.user_attrs["top1"] for t in trials if "top1" in t.user_attrs}


def test_an_accuracy_is_found_by_name_by_sorting_and_in_the_note(url: str, train: Train) -> None:
    train(1, 12.5)
    train(1, 81.25)
    study = read(url)
    assert accuracies(study) == {1: 81.25} == sortable(url)
    trial = study.trials[1]
    write_trial_notes(study, [get_candidate(study, 1)])
    running: Any = SimpleNamespace(storage=study._storage, study=study, _trial_id=trial._trial_id)
    assert "**Retrained:** top-1 81.25 % (loss 1, recipe quick, " in get_note(running)


def test_a_try_of_two_epochs_replaces_nothing(url: str, train: Train) -> None:
    kept = train(1, 98.6)["trained"]
    train(2, 97.0)
    tried = train(1, 33.2, epochs=2, warmup_epochs=0)["trained"]
    assert accuracies(read(url), kept) == {1: 98.6, 2: 97.0} == sortable(url)
    assert accuracies(read(url), tried) == {1: 33.2}


def test_trials_tell_accuracies_of_equal_conditions_alone(url: str, train: Train) -> None:
    train(0, 50.0)
    for trial in (1, 2):
        train(trial, 60.0 + trial, lr=1e-3)
    assert sortable(url) == {1: 61.0, 2: 62.0}


def test_accuracies_of_shared_training_are_sorted_by_too(url: str, train: Train) -> None:
    own = train(1, 81.25)["trained"]
    how = {"recipe": "quick", "epochs": 3, "out": "trained/s-shared"}
    results = {n: {"top1": 50.0 + n, "top5": 99.0, "loss": 1.0} for n in (0, 1)}
    few = record_shared(read(url), {2: results[0]}, how)
    recorded.show_accuracies(read(url))
    assert read(url).trials[2].user_attrs["shared"] == few
    key = record_shared(read(url), results, how)
    recorded.show_accuracies(read(url))
    study = read(url)
    shown = [
        {name: t.user_attrs.get(name) for name in ("top1", "trained", "shared_top1", "shared")}
        for t in study.trials
    ]
    assert [list(of_trial.values()) for of_trial in shown] == [
        [None, None, 50.0, key],
        [81.25, own, 51.0, key],
        # Another training was shown here before.
        [None, None, None, None],
    ]
    write_trial_notes(study, [get_candidate(study, 1)])
    trial_id = study.trials[1]._trial_id
    running: Any = SimpleNamespace(storage=study._storage, study=study, _trial_id=trial_id)
    assert "**Shared training:** top-1 51.00 % (top5 99, loss 1, recipe quick" in get_note(running)


def test_seeds_are_averaged(url: str, train: Train) -> None:
    assert train(1, 90.0, seed=0)["trained"] == train(1, 92.0, seed=1)["trained"]
    assert accuracies(read(url)) == {1: 91.0} == sortable(url)


def test_a_training_that_is_not_to_be_recorded_leaves_nothing(url: str, train: Train) -> None:
    before = read(url).user_attrs
    assert "trained" not in train(1, 33.2, record=False)
    assert read(url).user_attrs == before and sortable(url) == {}


def test_the_network_of_a_trial_knows_its_study(url: str) -> None:
    study = read(url)
    network = candidate_network(get_candidate(study, 2), read_settings(study), study.study_name)
    assert network.origin == {"name": "s", "trial": 2}
