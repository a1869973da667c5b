from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import databases
import optuna
import pytest
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from processes import SIZES, grouped

from tftas_optuna import search
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import open_storage

Search = Callable[..., optuna.Study]


@pytest.fixture
def run(small_space: AutoFormerSpace) -> Search:
    """Search the small space, by default for 20 trials in memory."""

    def run(**kwargs: object) -> optuna.Study:
        return search(small_space, **grouped({"n_trials": 20, **SIZES, **kwargs}))

    return run


@pytest.fixture(params=["postgresql", "mysql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from databases.fresh_database(request.param)


@pytest.fixture
def postgresql() -> Iterator[str]:
    yield from databases.fresh_database("postgresql")


@pytest.fixture(params=["sqlite", "journal", "journal path", "journal object", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | BaseStorage]:
    """A fresh storage of each kind and spelling that searches share and are killed on."""
    path = tmp_path / "study.journal"
    if request.param == "postgresql":
        yield from databases.fresh_database("postgresql")
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/study.db"
    elif request.param == "journal":
        yield f"journal:///{path}"
    elif request.param == "journal path":
        path.touch()
        yield str(path)
    else:
        # A killed search leaves its journal's lock; nobody here is slow enough to wait longer.
        lock = JournalFileSymlinkLock(str(path), grace_period=3)
        yield JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def unknown_schema(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database whose version is one that nobody has compared."""
    if request.param == "sqlite":
        urls: Iterator[str] = iter([f"sqlite:///{tmp_path}/study.db"])
    else:
        urls = databases.fresh_database(request.param)
    for url in urls:
        opened = open_storage(url, create=True)
        assert isinstance(opened, RDBStorage)
        with opened.engine.begin() as connection:
            connection.execute(sqlalchemy.text("UPDATE version_info SET schema_version = 99"))
        yield url
