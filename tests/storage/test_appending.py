from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import databases
import optuna
import pytest
import sqlalchemy
from processes import seen

from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import make_append, open_storage
from tftas_optuna.storage.appending import OptunaAppend
from tftas_optuna.storage.bulk import BulkAppend


def trials(space: AutoFormerSpace, run: object) -> list[optuna.trial.FrozenTrial]:
    return run(n_trials=12, bounds={"n_params": (None, 1e5)}).trials


def fill(url: str, name: str, written: list[optuna.trial.FrozenTrial], bulk: bool) -> object:
    storage = open_storage(url, create=True)
    study = optuna.create_study(
        storage=storage, study_name=name, directions=["maximize", "minimize"]
    )
    write = make_append(study, storage) if bulk else OptunaAppend(study, nullcontext())
    assert isinstance(write, BulkAppend) == bulk
    assert write(written[:5]) == 4
    assert write(written[5:]) == 11
    return optuna.load_study(study_name=name, storage=open_storage(url, create=False))


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    else:
        yield from databases.fresh_database(request.param)


def test_a_bulk_insert_is_what_optuna_would_have_stored(
    url: str, tokyo: None, small_space: AutoFormerSpace, run: object
) -> None:
    written = trials(small_space, run)
    ours, theirs = fill(url, "ours", written, True), fill(url, "theirs", written, False)
    assert seen(ours) == seen(theirs)
    for one, other in zip(ours.trials, theirs.trials, strict=True):
        assert one.distributions == other.distributions
        assert one.datetime_start == other.datetime_start
        assert one.datetime_complete == other.datetime_complete
        assert one.constraints == other.constraints
    assert [t.number for t in ours.best_trials] == [t.number for t in theirs.best_trials]


def test_behind_a_trial_that_is_not_the_last_nothing_is_written(
    small_space: AutoFormerSpace, run: object, storage: str
) -> None:
    written = trials(small_space, run)
    opened = open_storage(storage, create=True)
    study = optuna.create_study(storage=opened, directions=["maximize", "minimize"])
    write = make_append(study, opened)
    assert write(written[:5], after=-1) == 4
    assert write(written[5:], after=3) is None
    assert len(study.trials) == 5
    assert write(written[5:], after=4) == 11


def test_a_generation_is_stored_as_a_whole_or_not_at_all(
    small_space: AutoFormerSpace, run: object, tmp_path: object
) -> None:
    written = trials(small_space, run)
    storage = open_storage(f"sqlite:///{tmp_path}/study.db", create=True)
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"])
    with storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                "CREATE TRIGGER fail BEFORE INSERT ON trial_system_attributes"
                " BEGIN SELECT RAISE(ABORT, 'no more'); END"
            )
        )
    with pytest.raises(sqlalchemy.exc.SQLAlchemyError, match="no more"):
        make_append(study, storage)(written)
    assert study.trials == []
