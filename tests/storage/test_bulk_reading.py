"""What is read in bulk is what Optuna reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import databases
import optuna
import pytest
import sqlalchemy
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tftas_optuna.storage import bulk_reading, open_storage

DISTRIBUTIONS = {
    "width": IntDistribution(8, 64, step=8),
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "kind": CategoricalDistribution((None, True, 2, 0.5, "h3 r3.5")),
    "alone": CategoricalDistribution(("only",)),
}


@pytest.fixture(params=["sqlite", "postgresql", "mysql", "journal"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param in ("sqlite", "journal"):
        yield f"{request.param}:///{tmp_path}/study"
    else:
        yield from databases.fresh_database(request.param)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study"


def everything(url: str) -> optuna.Study:
    """A study with trials of every state and all that a trial can have, beside another."""
    storage = open_storage(url, create=True)
    other = optuna.create_study(storage=storage, study_name="other")
    study = optuna.create_study(
        storage=storage,
        study_name="ours",
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    study.enqueue_trial({"width": 8})
    for i, values in enumerate([(math.inf, -math.inf), (0.25, 1e-300)]):
        trial = study.ask(fixed_distributions=DISTRIBUTIONS)
        trial.set_user_attr("b", {"nested": [1, None, "\u00fc"], "n": i})
        trial.set_user_attr("a", 0.1 + 0.2)
        trial.set_constraint("n_params", i - 1.0)
        study.tell(trial, values)
        alone = other.ask(fixed_distributions=DISTRIBUTIONS)
        for step, found in enumerate((0.5, math.nan, math.inf, -math.inf)):
            alone.report(found, 10 - step)
        other.tell(alone, state=TrialState.PRUNED)
    study.ask({"rate": DISTRIBUTIONS["rate"]})
    study.tell(study.ask({"width": DISTRIBUTIONS["width"]}), state=TrialState.FAIL)
    study.enqueue_trial({"kind": None})
    return study


def plain(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """Everything that trials are, comparable: no number equals itself when it is none."""
    return [
        {
            **vars(trial),
            "order": [list(trial.params), list(trial.distributions)],
            "constraints": trial.constraints,
            "intermediate_values": sorted(map(repr, trial.intermediate_values.items())),
        }
        for trial in trials
    ]


def optunas(url: str) -> BaseStorage:
    """Open a storage as Optuna does."""
    if url.startswith("journal"):
        return JournalStorage(JournalFileBackend(url.removeprefix("journal:///")))
    storage = open_storage(url, create=False)
    assert isinstance(storage, RDBStorage)
    return RDBStorage(storage.engine.url.render_as_string(hide_password=False))


def trials_of(storage: BaseStorage, name: str) -> list[dict[str, Any]]:
    return plain(storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False))


def test_trials_of_every_kind_are_those_that_optuna_reads(url: str, tokyo: None) -> None:
    study = everything(url)
    opened = open_storage(url, create=False)
    looking = optuna.load_study(study_name="ours", storage=opened)
    seen = plain(looking.get_trials(deepcopy=False))
    assert seen == trials_of(optunas(url), "ours")
    assert {trial["state"] for trial in seen} == set(TrialState) - {TrialState.PRUNED}
    assert trials_of(opened, "other") == trials_of(optunas(url), "other")
    running = [trial["_number"] for trial in seen if trial["state"] == TrialState.RUNNING]
    study.tell(running[0], [7.0, 8.0])
    study.add_trial(optuna.create_trial(values=[1.0, 2.0], system_attrs={"constraints": [0.5]}))
    study.ask({"alone": DISTRIBUTIONS["alone"]})
    later = plain(looking.get_trials(deepcopy=False))
    assert later == trials_of(optunas(url), "ours")
    assert later[running[0]]["_values"] == [7.0, 8.0]


def test_a_journal_makes_a_distribution_once_and_passes_over_what_is_deleted(
    tmp_path: Path,
) -> None:
    url = f"journal:///{tmp_path}/study"
    storage = open_storage(url, create=True)
    params = {"width": 8, "rate": 1e-3, "kind": None, "alone": "only"}
    trial = optuna.create_trial(params=params, distributions=DISTRIBUTIONS, value=1.0)
    studies = [optuna.create_study(storage=storage, study_name=name) for name in ("gone", "kept")]
    for study in (*studies, *studies):
        study.add_trial(trial)
    text = (tmp_path / "study").read_text()
    optuna.delete_study(study_name="gone", storage=storage)
    # Written by somebody who does not know yet that the study is deleted.
    with (tmp_path / "study").open("a") as file:
        line = next(line for line in text.splitlines(True) if '"op_code":4' in line)
        file.write(line.replace('"worker_id":"', '"worker_id":"another '))
    studies[1].add_trial(trial)
    opened = open_storage(url, create=False)
    assert trials_of(opened, "kept") == trials_of(optunas(url), "kept")
    kept = opened.get_all_trials(opened.get_study_id_from_name("kept"), deepcopy=False)
    assert len(kept) == 3
    assert len({id(trial.distributions["rate"]) for trial in kept}) == 1


def no_reading(*_: object) -> None:
    raise AssertionError("read in bulk")


def test_another_schema_is_read_by_optuna(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(everything(database).trials)
    storage = open_storage(database, create=False)
    assert isinstance(storage, RDBStorage)
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE version_info SET schema_version = 99"))
    monkeypatch.setattr(bulk_reading, "_Reading", no_reading)
    assert trials_of(open_storage(database, create=False), "ours") == expected


def test_more_unfinished_trials_than_a_statement_takes_are_read_by_optuna(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything(database)
    looking = optuna.load_study(study_name="ours", storage=open_storage(database, create=False))
    before = plain(looking.get_trials())
    monkeypatch.setattr(bulk_reading, "_MOST", 0)
    monkeypatch.setattr(bulk_reading, "_Reading", no_reading)
    assert plain(looking.get_trials()) == before


def test_a_database_that_cannot_be_read_fails_as_optuna_does(database: str) -> None:
    storage = open_storage(database, create=True)
    study = optuna.create_study(storage=storage)
    assert isinstance(storage, RDBStorage)
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE trial_params"))
    with pytest.raises(StorageInternalError, match="no such table: trial_params"):
        study.get_trials()
