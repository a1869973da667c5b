from __future__ import annotations

import optuna
import pytest

from tftas_optuna import DSSObjective, Scorer, TftasError, pareto_front
from tftas_optuna.metrics import Meters
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study import front
from tftas_optuna.study.front import Candidate
from tftas_optuna.study.hypervolume import Hypervolume
from tftas_optuna.study.record import write_settings
from tftas_optuna.study.selection import best_first, knee, within
from tftas_optuna.study.settings import StudySettings


def candidate(number: int, dss: float, n_params: int) -> Candidate:
    values = {"dss": dss, "n_params": n_params, "macs": 10 * n_params}
    return Candidate(number, None, values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def settings(small_space: AutoFormerSpace) -> StudySettings:
    scorer = Scorer(small_space, img_size=32, num_classes=10)
    return DSSObjective(small_space, scorer=scorer).settings


def add(
    study: optuna.Study,
    space: AutoFormerSpace,
    arch: object,
    dss: float,
    constraint: float | None = None,
) -> None:
    study.add_trial(
        optuna.create_trial(
            params=space.encode(arch),
            distributions=space.distributions(),
            values=[dss, arch.costs(img_size=32, num_classes=10).n_params],
            system_attrs={} if constraint is None else {"constraints": [constraint]},
        )
    )


def test_the_front_is_feasible_undominated_and_without_repeats(
    small_space: AutoFormerSpace, settings: StudySettings
) -> None:
    study = optuna.create_study(directions=settings.directions)
    assert study.trials == []
    write_settings(study, settings)
    assert pareto_front(study) == []
    small, large = small_space.smallest(), small_space.largest()
    add(study, small_space, large, 3.0)
    add(study, small_space, small, 2.0)
    add(study, small_space, small, 2.0)
    add(study, small_space, large, 1.0)
    add(study, small_space, large, 9.0, constraint=0.5)
    found = pareto_front(study)
    rows = [(c.trial, c.values["dss"], c.architecture) for c in found]
    assert rows == [(1, 2.0, small), (0, 3.0, large)]
    assert {trial.number for trial in study.best_trials} == {0, 1, 2}
    assert found[0].macs == small.costs(img_size=32, num_classes=10).macs


def test_hypervolume_by_hand(settings: StudySettings, small_space: AutoFormerSpace) -> None:
    low = small_space.smallest().costs(img_size=32, num_classes=10).n_params
    high = small_space.largest().costs(img_size=32, num_classes=10).n_params
    middle = low + (high - low) / 4
    measure = Hypervolume(settings, Meters(settings.costs, settings.space, settings.target))
    assert measure([]) == 0
    assert measure([(8.0, low)]) == pytest.approx(8.0)
    assert measure([(8.0, high)]) == 0
    points = [(2.0, low), (10.0, middle), (5.0, high)]
    assert measure(points) == pytest.approx(2 * 0.25 + 10 * 0.75)


def test_picks_from_a_front(settings: StudySettings) -> None:
    line = [
        candidate(0, 0, 100),
        candidate(1, 60, 140),
        candidate(2, 90, 180),
        candidate(3, 100, 300),
    ]
    assert knee(line, settings).trial == 2
    assert knee(line[:1], settings).trial == 0
    assert [c.trial for c in best_first(line, settings)] == [3, 2, 1, 0]
    assert [c.trial for c in within(line, {"n_params": 180})] == [0, 1, 2]
    assert [c.trial for c in within(line, {"n_params": 180, "macs": 1400})] == [0, 1]
    with pytest.raises(TftasError, match="n_params <= 50; it begins at n_params 100"):
        within(line, {"n_params": 50})
    with pytest.raises(TftasError, match="front is empty"):
        knee([], settings)


def test_studies_of_others_are_told_apart(small_space: AutoFormerSpace) -> None:
    study = optuna.create_study(study_name="theirs")
    with pytest.raises(TftasError, match="study 'theirs' holds no architectures"):
        pareto_front(study)
    study.set_user_attr("space_definition", {"family": "autoformer"})
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["dss"])
    with pytest.raises(TftasError, match="or its record is damaged"):
        pareto_front(study)


def test_a_trial_by_number(small_space: AutoFormerSpace, settings: StudySettings) -> None:
    study = optuna.create_study(directions=settings.directions, study_name="ours")
    write_settings(study, settings)
    add(study, small_space, small_space.largest(), 3.0)
    assert front.get_candidate(study, 0).architecture == small_space.largest()
    for number in (1, -1):
        with pytest.raises(TftasError, match=f"unknown trial {number} in study 'ours'"):
            front.get_candidate(study, number)
    study.ask(fixed_distributions=dict(small_space.distributions()))
    with pytest.raises(TftasError, match="trial 1 has no value yet"):
        front.get_candidate(study, 1)
