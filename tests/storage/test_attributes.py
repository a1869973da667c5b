"""User attributes of finished trials, where a storage takes them."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from tftas_optuna.storage import annotate_finished, open_storage


def finished(opened: BaseStorage, name: str) -> optuna.Study:
    study = optuna.create_study(storage=opened, study_name=name)
    for _ in range(2):
        study.add_trial(optuna.create_trial(value=1.0, user_attrs={"macs": 5}))
    return study


def read(storage: str, name: str) -> list[dict[str, object]]:
    study = optuna.load_study(study_name=name, storage=open_storage(storage, create=False))
    return [dict(trial.user_attrs) for trial in study.trials]


def check(storage: str) -> None:
    opened = open_storage(storage, create=True)
    for name in ("one", "two"):
        finished(opened, name)
    for top1 in (12.5, 25.0):
        assert annotate_finished(opened, "two", 1, "top1", top1)
    assert read(storage, "one") == [{"macs": 5}, {"macs": 5}]
    assert read(storage, "two") == [{"macs": 5}, {"macs": 5, "top1": 25.0}]
    assert annotate_finished(opened, "two", 1, "top1", None)
    assert read(storage, "two") == [{"macs": 5}, {"macs": 5}]


def test_a_file_takes_an_attribute_of_one_finished_trial(tmp_path: Path) -> None:
    check(f"sqlite:///{tmp_path}/study.db")


def test_a_server_takes_it_too(database: str) -> None:
    check(database)


def test_a_journal_says_that_it_does_not(tmp_path: Path) -> None:
    storage = f"journal:///{tmp_path}/s.journal"
    opened = open_storage(storage, create=True)
    finished(opened, "one")
    assert not annotate_finished(opened, "one", 1, "top1", 12.5)
    assert read(storage, "one") == [{"macs": 5}, {"macs": 5}]


def test_tables_that_nobody_has_compared_are_left_alone(unknown_schema: str) -> None:
    opened = open_storage(unknown_schema, create=True)
    finished(opened, "one")
    assert not annotate_finished(opened, "one", 1, "top1", 12.5)
