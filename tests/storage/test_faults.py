"""What goes wrong around a search costs no trial, and is said in one line."""

from __future__ import annotations

import datetime
import logging
import multiprocessing
import threading
import time
from collections.abc import Callable
from pathlib import Path

import databases
import optuna
import pytest
import sqlalchemy
from processes import at, seen

from tftas_optuna.errors import UnavailableError
from tftas_optuna.search import coordinator
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import storage_name
from tftas_optuna.storage.rescue import rescue
from tftas_optuna.study.place import PLACE_KEY, place_of
from tftas_optuna.study.record import read_settings

Search = Callable[..., optuna.Study]


def shut(url: str) -> None:
    """Close a PostgreSQL database to everybody, as a restart does."""
    allow(url, False)
    name = sqlalchemy.make_url(url).database
    server = sqlalchemy.create_engine(databases.SERVERS["postgresql"])
    with server.connect() as connection:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
        connection.execute(sqlalchemy.text(end), {"name": name})


def allow(url: str, allowed: bool) -> None:
    name = sqlalchemy.make_url(url).database
    server = sqlalchemy.create_engine(
        databases.SERVERS["postgresql"], isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.execute(
            sqlalchemy.text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {allowed}")
        )


def test_a_database_that_restarts_is_waited_for(
    run: Search, postgresql: str, caplog: pytest.LogCaptureFixture
) -> None:
    def restart() -> None:
        shut(postgresql)
        threading.Timer(1.5, allow, (postgresql, True)).start()

    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        study = run(n_trials=48, storage=postgresql, callback=at(20, restart))
    assert seen(study) == seen(run(n_trials=48))
    assert caplog.text.count("the storage does not answer") == 1
    assert "trying again for up to 60 s" in caplog.text


def test_a_database_that_stays_away_leaves_a_journal_that_is_merged(
    run: Search, postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(coordinator, "_STORAGE_PATIENCE", 0.5)
    with pytest.raises(UnavailableError, match=r"went away .*scored trials are safe in") as caught:
        run(n_trials=48, storage=postgresql, callback=at(20, lambda: shut(postgresql)))
    (kept,) = tmp_path.iterdir()
    assert str(kept) in str(caught.value) and "secret" not in str(caught.value)
    allow(postgresql, True)
    n_before = len(
        optuna.load_study(study_name="small", storage=postgresql_url(postgresql)).trials
    )
    study = run(n_trials=1, storage=postgresql)
    n_merged = len(study.trials) - 1 - n_before
    assert n_merged >= 8 and list(tmp_path.iterdir()) == []
    study = run(n_trials=48 - len(study.trials), storage=postgresql)
    assert seen(study) == seen(run(n_trials=48))


def test_what_another_search_has_stored_meanwhile_is_not_merged(
    run: Search, small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = f"sqlite:///{tmp_path}/study.db"
    settings = read_settings(run(n_trials=8, storage=storage))
    scored = run(n_trials=12).trials
    for trial in scored:
        trial.system_attrs[PLACE_KEY] = [1, *place_of(trial)[1:]]
    rescue(scored, "small", storage_name(storage), settings)
    study = run(n_trials=8, storage=storage)
    assert len({small_space.decode(trial.params) for trial in study.trials}) == 8 + 4 + 8
    assert len(study.trials) == 8 + 4 + 8


def postgresql_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_a_full_disk_loses_nothing(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(coordinator, "_STORAGE_PATIENCE", 0.5)
    storage = f"sqlite:///{tmp_path}/study.db"
    run(n_trials=8, storage=storage)

    def limit(connection: object, _: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages + 8}")

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", limit)
    try:
        with pytest.raises(UnavailableError, match="disk is full"):
            run(n_trials=192, storage=storage)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "connect", limit)
    study = run(n_trials=1, storage=storage)
    study = run(n_trials=200 - len(study.trials), storage=storage)
    assert seen(study) == seen(run(n_trials=200))
    assert not list(tmp_path.glob("tftas-rescued*"))


@pytest.mark.slow
def test_the_work_of_a_killed_worker_is_done_again(run: Search) -> None:
    def kill() -> None:
        multiprocessing.active_children()[0].kill()

    study = run(n_trials=48, workers=2, callback=at(12, kill))
    assert seen(study) == seen(run(n_trials=48))


def test_a_clock_that_is_set_back_gives_no_negative_durations(
    run: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime.datetime):
        left = 100_000

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            cls.left -= 3600
            return datetime.datetime(2026, 11, 1) + datetime.timedelta(seconds=cls.left)

    expected = seen(run())
    monkeypatch.setattr(datetime, "datetime", Clock)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    study = run()
    assert seen(study) == expected
    assert all(t.datetime_start < t.datetime_complete for t in study.trials)
    monkeypatch.undo()
    time.tzset()
