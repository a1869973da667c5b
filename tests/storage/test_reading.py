"""Reading what is empty, foreign, or lies where nothing can be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from processes import CONTEXT, SIZES, becomes_another_user, seen

from tftas_optuna import TftasError, search
from tftas_optuna.spaces import AutoFormerSpace, space_from_dict
from tftas_optuna.storage import load_study, open_storage

Search = Callable[..., optuna.Study]
NOBODY = 65534


def test_an_empty_file_holds_no_studies(run: Search, tmp_path: Path) -> None:
    (tmp_path / "study.db").touch()
    with pytest.raises(TftasError, match="holds no studies: the file is empty; make one with `t"):
        load_study(f"sqlite:///{tmp_path}/study.db")
    assert (tmp_path / "study.db").read_bytes() == b""
    assert len(run(n_trials=2, storage=f"sqlite:///{tmp_path}/study.db").trials) == 2


def test_a_database_of_something_else_holds_no_studies(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    with pytest.raises(TftasError, match="study.db holds no studies; make one with `tftas-opt"):
        load_study(f"sqlite:///{tmp_path}/study.db")


def test_a_folder_that_is_not_writable_takes_no_new_study(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(TftasError, match="is not writable, and SQLite keeps its log beside"):
        run(n_trials=2, storage=f"sqlite:///{tmp_path}/study.db")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user of the machine may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="tftas-shared-"))
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def leave(path: Path, space: dict[str, object]) -> None:
    """Search, and be gone without closing the database: its log stays behind."""
    study = search(space_from_dict(space), n_trials=8, storage=f"sqlite:///{path}", **SIZES)
    assert study.trials
    os._exit(0)


def read_as_nobody(
    path: Path, expected: list[tuple[object, ...]], space: dict[str, object]
) -> None:
    # Python and the packages may be where nobody else can read: have them loaded before.
    search(space_from_dict(space), n_trials=2, storage=f"sqlite:///{path.parent}/a.db", **SIZES)
    assert seen(load_study(f"sqlite:///{path.parent}/a.db"))
    path.parent.chmod(0o555)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    assert not os.access(path.parent, os.W_OK)
    before = sorted(os.listdir(path.parent))
    assert seen(load_study(f"sqlite:///{path}")) == expected
    assert sorted(os.listdir(path.parent)) == before


@becomes_another_user
@pytest.mark.parametrize("closed", [True, False])
def test_a_study_is_read_where_nothing_can_be_written(
    run: Search, small_space: AutoFormerSpace, shared: Path, closed: bool
) -> None:
    shared.chmod(0o755)
    path = shared / "my study#1.db"
    process = CONTEXT.Process(target=leave, args=(path, small_space.to_dict()))
    process.start()
    process.join(120)
    log = path.with_name(f"{path.name}-wal")
    assert log.stat().st_size
    if closed:
        with sqlite3.connect(path) as connection:
            connection.execute("SELECT * FROM trials").fetchall()
        connection.close()
        assert not log.exists()
    expected = seen(run(n_trials=8))
    process = CONTEXT.Process(target=read_as_nobody, args=(path, expected, small_space.to_dict()))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def test_reading_where_nothing_can_be_written_follows_a_search_that_begins_meanwhile(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    run(n_trials=8, storage=storage)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        opened = open_storage(storage, create=False)
    study = optuna.load_study(study_name="small", storage=opened)
    assert len(study.get_trials()) == 8
    run(n_trials=8, storage=storage)
    assert len(study.get_trials()) == 16
    with pytest.raises(StorageInternalError):
        study.set_user_attr("written", True)
