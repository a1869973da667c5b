"""A storage is opened as what its file is, and what is no storage is never written to."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage import load_study, open_storage, storage_name
from tftas_optuna.storage.kinds import Kind, kind_of

Search = Callable[..., optuna.Study]

FOREIGN = {
    "text": b"the first line\nthe last line, without an end",
    "line": b"one line, without an end",
    "json": b'{"name": "somebody", "op_code": "0"}\n{"half',
    "small": b"x",
    "binary": bytes(range(256)) * 40,
}
SPELLINGS = ("{path}", "sqlite:///{path}", "journal:///{path}")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("ending", [".db", ".journal", ".txt"])
def test_a_foreign_file_is_refused_and_left_as_it_is(
    tmp_path: Path, spelling: str, name: str, ending: str
) -> None:
    path = tmp_path / f"notes{ending}"
    path.write_bytes(FOREIGN[name])
    for create in (True, False):
        with pytest.raises(UnavailableError, match="neither a SQLite database nor an Optuna jou"):
            open_storage(spelling.format(path=path), create=create)
    assert path.read_bytes() == FOREIGN[name]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("table", ["bookmarks (a)", "studies (a)"])
def test_a_database_of_another_program_is_left_as_it_is(tmp_path: Path, table: str) -> None:
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table}")
    before = path.read_bytes()
    with pytest.raises(UnavailableError, match="a database of another program"):
        open_storage(str(path), create=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_end_that_is_no_half_record_is_not_cut(run: Search, tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    run(n_trials=2, storage=f"journal:///{path}")
    written = path.read_bytes() + b"notes of somebody"
    path.write_bytes(written)
    with pytest.raises(UnavailableError, match="is no record of a journal"):
        open_storage(str(path), create=True)
    assert path.read_bytes() == written


def test_a_foreign_file_behind_a_link_is_left_as_it_is(tmp_path: Path) -> None:
    target, link = tmp_path / "notes.txt", tmp_path / "study.journal"
    target.write_bytes(FOREIGN["text"])
    link.symlink_to(target)
    for spelling in SPELLINGS:
        with pytest.raises(UnavailableError, match="neither a SQLite database nor an Optuna jou"):
            open_storage(spelling.format(path=link), create=True)
    assert target.read_bytes() == FOREIGN["text"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_directory_is_no_storage(tmp_path: Path, spelling: str) -> None:
    with pytest.raises(UnavailableError, match="is a directory.*; give a file in it"):
        open_storage(spelling.format(path=tmp_path), create=True)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_device_is_no_storage(spelling: str) -> None:
    with pytest.raises(UnavailableError, match="neither a SQLite database nor an Optuna journal"):
        open_storage(spelling.format(path="/dev/null"), create=True)


def test_to_look_at_a_database_takes_no_lock_from_it(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    look = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version')"
    with contextlib.closing(sqlite3.connect(path)) as ours:
        ours.execute("PRAGMA journal_mode=WAL")
        ours.execute("CREATE TABLE studies (study_id)")
        ours.commit()
        assert kind_of(path) is Kind.SQLITE
        # The last one that closes a database removes its log: that is not the other process.
        subprocess.run([sys.executable, "-c", look, str(path)], check=True)
        assert path.with_name("study.db-wal").exists()


def test_a_database_goes_on_by_its_path_alone(run: Search, tmp_path: Path) -> None:
    # A name that says otherwise does not count.
    path = tmp_path / "study.journal"
    run(n_trials=2, storage=f"sqlite:///{path}")
    run(n_trials=2, storage=str(path))
    assert len(load_study(f"sqlite:///{path}").trials) == 4
    assert storage_name(str(path)) == storage_name(f"sqlite:///{path}")


def test_a_journal_goes_on_by_its_path_alone(run: Search, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    run(n_trials=2, storage=f"journal:///{path}")
    run(n_trials=2, storage=str(path))
    assert len(load_study(f"journal:///{path}").trials) == 4


@pytest.mark.parametrize("ending", [".db", ".sqlite", ".sqlite3", ".journal", ".log"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_new_file_is_what_its_ending_says(
    run: Search, tmp_path: Path, ending: str, empty: bool
) -> None:
    path = tmp_path / f"study{ending}"
    if empty:
        path.touch()
    run(n_trials=1, storage=str(path))
    assert path.read_bytes().startswith(
        b'{"op_code":0' if ending in (".journal", ".log") else b"SQLite format 3\0"
    )


@pytest.mark.parametrize("name", ["study", "study.txt"])
def test_a_new_file_of_another_ending_is_refused_with_both_spellings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for create in (True, False):
        with pytest.raises(UnavailableError, match="give sqlite:///study.* or journal:///study"):
            open_storage(name, create=create)
    assert list(tmp_path.iterdir()) == []


def test_an_url_of_the_wrong_kind_is_refused(run: Search, tmp_path: Path) -> None:
    database, journal = tmp_path / "study.db", tmp_path / "study.journal"
    run(n_trials=1, storage=f"sqlite:///{database}")
    run(n_trials=1, storage=f"journal:///{journal}")
    before = database.read_bytes(), journal.read_bytes()
    with pytest.raises(UnavailableError, match="is a SQLite database, not an Optuna journal; giv"):
        run(n_trials=1, storage=f"journal:///{database}")
    with pytest.raises(UnavailableError, match="is an Optuna journal, not a SQLite database; giv"):
        run(n_trials=1, storage=f"sqlite:///{journal}")
    assert (database.read_bytes(), journal.read_bytes()) == before


def test_a_storage_object_on_a_foreign_file_is_refused(run: Search, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(FOREIGN["line"])
    opened = JournalStorage(JournalFileBackend(str(path)))
    with pytest.raises(UnavailableError, match="neither a SQLite database nor an Optuna journal"):
        run(n_trials=1, storage=opened)
    assert path.read_bytes() == FOREIGN["line"]


def test_nothing_is_cut_where_a_line_before_is_damaged(run: Search, tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    run(n_trials=1, storage=str(path))
    damaged = path.read_bytes() + b'not a record\n{"op_code":4,"study'
    path.write_bytes(damaged)
    n_lines = damaged.count(b"\n")
    with pytest.raises(UnavailableError, match=f"is damaged: line {n_lines} is no record"):
        run(n_trials=1, storage=str(path))
    assert path.read_bytes() == damaged


def test_a_last_record_without_an_end_is_kept(run: Search, tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    run(n_trials=2, storage=str(path))
    # As editors leave it.
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    run(n_trials=2, storage=str(path))
    assert len(load_study(str(path)).trials) == 4


def test_a_first_record_that_is_cut_off_is_begun_again(run: Search, tmp_path: Path) -> None:
    path = tmp_path / "study.txt"
    for half in (b"{", b'{"op_code":0,"worker_id":"d2a', b'{"op_code":0,"wor'):
        path.write_bytes(half)
        run(n_trials=2, storage=str(path))
        assert len(load_study(str(path)).trials) == 2


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_lies_where_a_journal_is_locked_is_not_removed(
    run: Search, tmp_path: Path, kind: str
) -> None:
    path, lock = tmp_path / "study.journal", tmp_path / "study.journal.lock"
    other = tmp_path / "precious"
    other.write_text("precious")
    if kind == "directory":
        lock.mkdir()
    elif kind == "link":
        lock.symlink_to(other)
    else:
        lock.write_text("precious")
    with pytest.raises(UnavailableError, match=r"study.journal.lock is in the way, where Optuna"):
        run(n_trials=1, storage=str(path))
    assert lock.is_dir() or lock.read_text() == "precious"
    assert not path.exists()


@pytest.mark.parametrize("name", ["a#b.db", "a b.db", "a?b.db", "a%20b.db", "a{b}.db", "é.db"])
def test_a_path_alone_is_taken_literally(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    study = run(n_trials=1, storage=name)
    assert (tmp_path / name).is_file()
    assert not [other for other in tmp_path.iterdir() if not other.name.startswith(name)]
    assert storage_name(name) == str(tmp_path / name)
    assert len(load_study(name, study.study_name).trials) == 1


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        (
            "sqlite:///a?b.db",
            "'b.db' after ? is not a setting; known: timeout,.*; a file with ? in its name",
        ),
        ("sqlite:///a.db?timout=9", "'timout' after ? is not a setting; known: timeout,"),
        ("sqlite:///a.db?mode=ro", "mode needs file: before the name and uri=true"),
        ("sqlite:///a.db?uri=true", "uri=true needs file: before the name"),
        ("sqlite:///file:a.db?mode=memory&uri=true", "is in memory only"),
    ],
)
def test_an_url_that_names_another_file_than_it_seems_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnavailableError, match=message.replace("?", r"\?")):
        open_storage(storage, create=True)
    assert list(tmp_path.iterdir()) == []


def test_settings_in_a_sqlite_url_are_taken(run: Search, tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    run(n_trials=1, storage=f"sqlite:///{path}?timeout=5")
    run(n_trials=1, storage=f"sqlite:///file:{path}?uri=true&mode=rw")
    assert len(load_study(str(path)).trials) == 2
