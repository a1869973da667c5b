from __future__ import annotations

from pathlib import Path

import optuna

from tftas_optuna import pareto_front, search
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import accuracies, record_accuracy


def test_an_accuracy_stands_beside_its_score(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    search(small_space, n_trials=6, population_size=6, img_size=32, storage=url, study_name="s")
    study = optuna.load_study(study_name="s", storage=url)
    first, *others = pareto_front(study)
    assert accuracies(study) == {} and first.top1 is None
    record_accuracy(study, first.trial, {"top1": 81.25, "recipe": "quick", "seed": 1})
    record_accuracy(study, first.trial, {"top1": 90.0, "loss": 0.123456, "n_train": 50000})

    again = optuna.load_study(study_name="s", storage=url)
    assert accuracies(again) == {first.trial: 90.0}
    assert [candidate.top1 for candidate in pareto_front(again)] == [90.0] + [None] * len(others)
