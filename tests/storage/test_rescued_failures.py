"""What is merged from a rescue file: failed trials as well, in a study with those of others."""

from __future__ import annotations

from pathlib import Path

import foreign
import optuna
import pytest
from random_studies import random_study

from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import make_append, merge_rescued
from tftas_optuna.storage.rescue import rescue
from tftas_optuna.study.own import FAILURE_KEY
from tftas_optuna.study.place import PLACE_KEY
from tftas_optuna.study.record import read_settings


def failed(space: AutoFormerSpace, position: int) -> optuna.trial.FrozenTrial:
    """A trial of the largest architecture, which has no score."""
    return optuna.create_trial(
        state=optuna.trial.TrialState.FAIL,
        params=space.encode(space.largest()),
        distributions=dict(space.distributions()),
        user_attrs={FAILURE_KEY: "too large"},
        system_attrs={PLACE_KEY: [0, 0, position]},
    )


def test_a_failed_trial_is_merged_once_and_foreign_ones_are_no_hindrance(
    small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = random_study(small_space, 3)
    for kind in foreign.KINDS.values():
        kind(study, small_space)
    before = len(study.trials)
    settings = read_settings(study)
    append = make_append(study, study._storage)
    for position in range(2):
        rescue([failed(small_space, position)], study.study_name, "memory", settings)
        merge_rescued(study, "memory", settings, append)
        assert [trial.number for trial in study.trials[before:]] == [before]
    assert study.trials[-1].user_attrs == {FAILURE_KEY: "too large"}
    assert not list(tmp_path.iterdir())
