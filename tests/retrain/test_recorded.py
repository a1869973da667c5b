"""What a training leaves in the study that its network comes from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from optuna_dashboard import get_note

from tftas_optuna import pareto_front, search
from tftas_optuna.retrain import load_recipe, recorded
from tftas_optuna.retrain.data import DataSource
from tftas_optuna.retrain.distributed import World
from tftas_optuna.retrain.network import Network
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import accuracies


def test_an_accuracy_is_found_by_name_by_sorting_and_in_the_note(
    tiny: Network, small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    search(small_space, n_trials=3, objectives=("n_params",), storage=url, study_name="s")
    study = optuna.load_study(study_name="s", storage=url)
    number = pareto_front(study)[0].trial
    results = iter(({"top1": 12.5, "loss": 2.0}, {"top1": 81.25, "loss": 1.0}))

    def train(*args: Any, **how: Any) -> dict[str, Any]:
        return next(results)

    monkeypatch.setattr(recorded, "train_network", train)
    for _ in range(2):
        recorded.train_and_record(
            tiny,
            load_recipe("quick", {}),
            DataSource(tmp_path),
            tmp_path,
            world=World(torch.device("cpu")),
            study=study,
            trial=number,
        )
    again = optuna.load_study(study_name="s", storage=url)
    assert accuracies(again) == {number: 81.25}
    assert {t.number: t.user_attrs["top1"] for t in again.trials if "top1" in t.user_attrs} == {
        number: 81.25
    }
    trial = again.trials[number]
    running: Any = SimpleNamespace(storage=again._storage, study=again, _trial_id=trial._trial_id)
    assert "**Retrained:** top-1 81.25 % (loss 1, recipe quick, " in get_note(running)
