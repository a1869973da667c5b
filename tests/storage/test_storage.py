from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from processes import CONTEXT

from tftas_optuna import TftasError, search
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study, open_storage


def run(space: AutoFormerSpace, storage: str, n_trials: int = 6) -> optuna.Study:
    return search(
        space, n_trials=n_trials, storage=storage, population_size=4, img_size=32, num_classes=10
    )


def test_a_database_server_holds_the_same_study(
    small_space: AutoFormerSpace, database: str
) -> None:
    with pytest.raises(TftasError, match="holds no studies"):
        load_study(database)
    run(small_space, database)
    run(small_space, database)
    expected = search(small_space, n_trials=12, population_size=4, img_size=32, num_classes=10)
    study = load_study(database)
    assert [t.params for t in study.trials] == [t.params for t in expected.trials]
    for ours, theirs in zip(study.trials, expected.trials, strict=True):
        assert ours.values == pytest.approx(theirs.values, rel=1e-12)


def test_a_journal_file_holds_the_same_study(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    optuna.create_study(storage=JournalStorage(JournalFileBackend(str(path))), study_name="other")
    run(small_space, str(path))
    assert len(load_study(str(path), "small").trials) == 6
    with pytest.raises(TftasError, match="holds 'other', 'small'; give one as --study-name"):
        load_study(str(path))


def test_a_new_journal_by_its_scheme_and_one_cut_off_in_a_line(
    small_space: AutoFormerSpace, tmp_path: Path
) -> None:
    path = tmp_path / "study.journal"
    run(small_space, f"journal:///{path}")
    whole = path.read_bytes()
    # A process that is killed while it appends leaves half a line.
    path.write_bytes(whole + b'{"op_code":4,"study')
    run(small_space, f"journal:///{path}")
    assert path.read_bytes().startswith(whole)
    assert len(load_study(str(path), "small").trials) == 12
    path.write_bytes(path.read_bytes() + b'{"op_code":4,"study')
    opened = JournalStorage(JournalFileBackend(str(path)))
    search(small_space, n_trials=6, storage=opened, population_size=4, img_size=32, num_classes=10)
    assert len(load_study(str(path), "small").trials) == 18
    with pytest.raises(TftasError, match="none.journal does not exist"):
        load_study(f"journal:///{tmp_path}/none.journal")


def test_sqlite_is_read_while_it_is_written(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    seen: list[int] = []
    search(
        small_space,
        n_trials=40,
        storage=url,
        population_size=4,
        img_size=32,
        num_classes=10,
        callback=lambda progress: (
            seen.append(len(load_study(url).trials)) if progress.n_done % 20 == 0 else None
        ),
    )
    assert seen[0] == 0 and seen[-1] == 40
    with sqlite3.connect(tmp_path / "study.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def serve(port: int, url: str) -> None:
    optuna.storages.run_grpc_proxy_server(
        optuna.storages.RDBStorage(url), host="127.0.0.1", port=port
    )


def test_the_grpc_proxy_holds_the_same_study(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = CONTEXT.Process(target=serve, args=(port, f"sqlite:///{tmp_path}/study.db"))
    server.start()
    try:
        for _ in range(2):
            run(small_space, f"grpc://127.0.0.1:{port}")
        assert len(load_study(f"grpc://127.0.0.1:{port}").trials) == 12
    finally:
        server.kill()
        server.join()
    expected = search(small_space, n_trials=12, population_size=4, img_size=32, num_classes=10)
    stored = load_study(f"sqlite:///{tmp_path}/study.db")
    assert [t.params for t in stored.trials] == [t.params for t in expected.trials]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    for ask in (lambda: load_study(url), lambda: open_storage(url, create=False)):
        with pytest.raises(TftasError, match="none.db does not exist"):
            ask()
    assert list(tmp_path.iterdir()) == []


def test_unknown_studies_list_the_known(small_space: AutoFormerSpace, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    run(small_space, url)
    with pytest.raises(TftasError, match="unknown study 'nope' in sqlite:.*; known: small"):
        load_study(url, "nope")


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("nonsense", "'nonsense' is neither a database URL"),
        ("sqlite://", "is in memory only; give a file"),
        ("sqlite:///{tmp}", "is a directory"),
        ("sqlite:///{tmp}/no/study.db", "directory {tmp}/no does not exist"),
        ("postgresql://me:secret@127.0.0.1:9/x", "postgresql.*me:\\*\\*\\*@.*cannot be opened"),
        ("mysql://me:secret@127.0.0.1:9/x", "mysql.*me:\\*\\*\\*@.*cannot be opened"),
        ("grpc://nowhere", "is not of the form grpc://host:port"),
        ("journal:///{tmp}/no/study.journal", "directory {tmp}/no does not exist"),
        ("oracle://me:secret@127.0.0.1:9/x", "its driver is not installed"),
        ("nosuch://me:secret@127.0.0.1:9/x", "its driver is not installed"),
    ],
)
def test_what_cannot_be_opened_says_why_and_no_password(
    tmp_path: Path, storage: str, message: str
) -> None:
    with pytest.raises(TftasError, match=message.replace("{tmp}", str(tmp_path))) as caught:
        open_storage(storage.replace("{tmp}", str(tmp_path)), create=True)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but quite long enough to be looked at closely\n" * 100)
    with pytest.raises(TftasError, match="is neither a SQLite database"):
        open_storage(f"sqlite:///{path}", create=True)
    assert path.read_text().startswith("not a database")
