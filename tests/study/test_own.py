"""A trial that stands for no architecture is skipped everywhere, and named once."""

from __future__ import annotations

import logging

import foreign
import optuna
import pytest
from random_studies import random_study

from tftas_optuna import UnavailableError, pareto_front
from tftas_optuna.correlate.trained import read_study, stored_scores
from tftas_optuna.plots.choices import effects
from tftas_optuna.plots.front import front_groups
from tftas_optuna.plots.hypervolume import hypervolumes
from tftas_optuna.plots.importances import importances
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.accuracy import record_accuracy
from tftas_optuna.study.front import get_candidate
from tftas_optuna.study.own import own_trials
from tftas_optuna.study.record import read_settings

N = 60


def searched(space: AutoFormerSpace) -> optuna.Study:
    study = random_study(space, N, objectives=("dss", "n_params"))
    record_accuracy(study, 3, {"top1": 70.0})
    return study


def readings(study: optuna.Study) -> list[object]:
    settings = read_settings(study)
    archs = {settings.space.decode(trial.params) for trial in own_trials(study, settings)}
    return [
        pareto_front(study),
        effects(study, "dss"),
        hypervolumes(study),
        importances(study),
        read_study(study),
        stored_scores(study, settings, archs),
        [group.total for group in front_groups(study)],
    ]


@pytest.mark.parametrize("kind", foreign.KINDS)
def test_nothing_that_is_read_changes(
    small_space: AutoFormerSpace, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    study = searched(small_space)
    before = readings(study)
    assert not caplog.messages
    foreign.KINDS[kind](study, small_space)
    assert readings(study) == before
    assert set(caplog.messages) == {caplog.messages[0]}
    assert caplog.messages[0].startswith(f"study {study.study_name!r}: trial {N} skipped, no arch")
    with pytest.raises(UnavailableError, match=f"trial {N} of study .* is no architecture of its"):
        get_candidate(study, N)


def test_many_are_named_in_one_line(
    small_space: AutoFormerSpace, caplog: pytest.LogCaptureFixture
) -> None:
    study = random_study(small_space, 5, objectives=("dss", "n_params"))
    for kind in foreign.KINDS.values():
        kind(study, small_space)
    foreign.add_decodable(study, small_space)
    foreign.told_without_parameters(study, small_space)
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        assert len(own_trials(study, read_settings(study))) == 6
    (line,) = caplog.messages
    assert "trials 5-9, 11 skipped" in line and "(trial 5: parameter embed_dim is None" in line


def test_a_study_of_one_objective_skips_them_too(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 5, objectives=("dss",))
    before = pareto_front(study)
    study.tell(study.ask(), 1e9)
    assert pareto_front(study) == before


def test_nonsense_in_attributes_is_not_read(small_space: AutoFormerSpace) -> None:
    study = random_study(small_space, 5, objectives=("dss", "n_params"))
    number = foreign.add_decodable(study, small_space)
    candidate = get_candidate(study, number)
    assert candidate.values["dss"] == 0.5 and candidate.macs > 1
