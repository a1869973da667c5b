"""What is stored in bulk is what Optuna would have stored, or goes through Optuna."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import databases
import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from tftas_optuna.storage import make_append, open_storage
from tftas_optuna.storage.appending import OptunaAppend
from tftas_optuna.storage.bulk import KNOWN_SCHEMAS, BulkAppend, schema_version
from tftas_optuna.study.place import PLACE_KEY


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    else:
        yield from databases.fresh_database(request.param)


def infinite() -> list[optuna.trial.FrozenTrial]:
    """Trials whose objectives are infinite, one way and the other."""
    return [
        optuna.create_trial(values=list(values), system_attrs={PLACE_KEY: [0, 0, i]})
        for i, values in enumerate([(math.inf, -math.inf), (-math.inf, 1.0), (0.5, math.inf)])
    ]


def rows(storage: RDBStorage, study: optuna.Study) -> list[tuple[object, ...]]:
    """The values of a study's trials, as they lie in the database."""
    select = sqlalchemy.text(
        "SELECT number, objective, value, value_type FROM trial_values JOIN trials"
        " ON trials.trial_id = trial_values.trial_id WHERE study_id = :id ORDER BY 1, 2"
    )
    with storage.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(select, {"id": study._study_id})]


def test_infinite_values_come_back(url: str) -> None:
    storage = open_storage(url, create=True)
    assert isinstance(storage, RDBStorage)
    found = []
    for name in ("ours", "theirs"):
        study = optuna.create_study(
            storage=storage, study_name=name, directions=["maximize", "minimize"]
        )
        append = make_append(study, storage)
        assert isinstance(append, BulkAppend)
        (append if name == "ours" else OptunaAppend(study, nullcontext()))(infinite())
        again = optuna.load_study(study_name=name, storage=open_storage(url, create=False))
        assert [t.values for t in again.trials] == [t.values for t in infinite()]
        found.append(rows(storage, study))
    assert found[0] == found[1]


def test_a_failed_trial_is_stored_as_optuna_stores_it(url: str) -> None:
    storage = open_storage(url, create=True)
    depth = CategoricalDistribution((2, 3))
    trial = optuna.create_trial(
        state=TrialState.FAIL,
        params={"depth": 3},
        distributions={"depth": depth},
        user_attrs={"failure": "too deep", "n_params": 7.0},
        system_attrs={PLACE_KEY: [0, 0, 0]},
    )
    for name in ("ours", "theirs"):
        study = optuna.create_study(storage=storage, study_name=name)
        append = make_append(study, storage)
        assert isinstance(append, BulkAppend)
        (append if name == "ours" else OptunaAppend(study, nullcontext()))([trial])
    ours, theirs = (
        optuna.load_study(study_name=name, storage=open_storage(url, create=False)).trials[0]
        for name in ("ours", "theirs")
    )
    assert vars(ours).keys() == vars(theirs).keys()
    for seen in (ours, theirs):
        assert (seen.state, seen.values, seen.params) == (TrialState.FAIL, None, {"depth": 3})
        assert (seen.user_attrs, seen.system_attrs) == (trial.user_attrs, trial.system_attrs)
        assert seen.datetime_complete is not None


def test_the_schema_of_this_optuna_is_known(url: str) -> None:
    storage = open_storage(url, create=True)
    assert isinstance(storage, RDBStorage)
    assert schema_version(storage) in KNOWN_SCHEMAS


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ("UPDATE version_info SET schema_version = 99", r"v3\.2\.0\.a \(99\)"),
        ("UPDATE alembic_version SET version_num = 'v9.9.9.a'", r"v9\.9\.9\.a \(12\)"),
        ("DELETE FROM version_info", r"v3\.2\.0\.a \(None\)"),
        ("DROP TABLE alembic_version", r"None \(12\)"),
    ],
)
def test_another_schema_is_left_to_optuna_with_one_warning(
    url: str, change: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(url, create=True)
    assert isinstance(storage, RDBStorage)
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text(change))
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        append = make_append(study, storage)
        assert append(infinite()[:2], after=-1) == 1
        assert append(infinite()[2:], after=0) is None
        assert append(infinite()[2:], after=1) == 2
    assert isinstance(append, OptunaAppend)
    (record,) = (record for record in caplog.records if record.name == "tftas_optuna")
    line = record.getMessage()
    assert "\n" not in line
    assert re.search(rf"schema {version}, .* only in v3\.2\.0\.a \(12\)", line)


def test_a_storage_behind_optunas_cache_is_written_in_bulk(url: str) -> None:
    storage = optuna.storages.get_storage(open_storage(url, create=True))
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    assert isinstance(make_append(study, storage), BulkAppend)
