"""Studies as release 0.1.0 recorded them."""

from __future__ import annotations

import optuna
import pytest

from tftas_optuna import TftasError, UnavailableError, export_front, pareto_front, search
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.study.record import read_settings


def old_study(space: AutoFormerSpace, **changes: object) -> optuna.Study:
    """A study with one trial, with the attributes that release 0.1.0 wrote."""
    study = optuna.create_study(study_name="small", directions=["maximize", "minimize"])
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["dss_collapsed", "n_params"])
    attributes = {
        "space": space.name,
        "indicator": "dss",
        "fidelity": "collapsed",
        "seed": 7,
        "n_seeds": 1,
        "img_size": 32,
        "num_classes": 10,
        "head_weight": 2.0,
        "bounds": {"n_params": [None, 9e4]},
        "population_size": 8,
        "sampler": "nsgaii",
        "deployment": None,
        "exact_dss": {"0": 11.5},
        "exact_agreement": {"kendall_tau": 1.0, "relative_offset": 0.01},
        "versions": {"tftas-optuna": "0.1.0"},
        "space_definition": space.to_dict(),
        **changes,
    }
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    arch = space.smallest()
    study.add_trial(
        optuna.create_trial(
            params=space.encode(arch),
            distributions=space.distributions(),
            values=[12.0, arch.costs(img_size=32, num_classes=10).n_params],
        )
    )
    return study


def test_its_settings_and_its_front_are_read(
    small_space: AutoFormerSpace, tmp_path: object
) -> None:
    study = old_study(small_space)
    settings = read_settings(study)
    assert settings.objectives == ("dss", "n_params")
    assert (settings.seed, settings.conditions.supernet.seed) == (7, 7)
    assert settings.approximated == ("dss",) and settings.options == {"dss": {"head_weight": 2.0}}
    (candidate,) = pareto_front(study)
    assert candidate.named_values()["dss_collapsed"] == 12.0
    assert candidate.named_values()["dss"] == 11.5
    assert len(export_front(study, str(tmp_path))) == 2


def test_an_exact_one_with_the_usual_options_is_gone_on_with(small_space: AutoFormerSpace) -> None:
    study = old_study(
        small_space, fidelity="exact", head_weight=1.0, bounds={}, exact_dss={}, sampler=None
    )
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        study.set_metric_names(["dss", "n_params"])
    settings = read_settings(study)
    assert settings.approximated == () and settings.options == {}
    (candidate,) = pareto_front(study)
    assert list(candidate.named_values()) == ["dss", "n_params", "macs"]
    arguments = dict(seed=7, img_size=32, num_classes=10, population_size=8)
    more = search(small_space, n_trials=2, storage=study._storage, **arguments)
    assert len(more.trials) == 3


def test_one_of_a_later_release_is_refused(small_space: AutoFormerSpace) -> None:
    study = old_study(small_space, record_version=99)
    with pytest.raises(UnavailableError, match="was made by a later release; upgrade"):
        pareto_front(study)


def test_one_with_other_settings_is_not_continued(small_space: AutoFormerSpace) -> None:
    study = old_study(small_space)
    with pytest.raises(TftasError, match="made with bounds n_params <= 90.00k, not none"):
        search(
            small_space,
            n_trials=1,
            storage=study._storage,
            fidelity="collapsed",
            seed=7,
            img_size=32,
            num_classes=10,
            population_size=8,
        )
