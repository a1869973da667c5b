"""A storage has one name and one file, however it is spelled."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from tftas_optuna.storage import storage_name
from tftas_optuna.storage.naming import storage_file


def test_one_sqlite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my study.db"
    monkeypatch.chdir(tmp_path)
    opened = RDBStorage(f"sqlite:///{path}")
    (tmp_path / "link.db").symlink_to(path)
    spellings = [
        f"sqlite:///{path}",
        "sqlite:///my study.db",
        f"sqlite:///{tmp_path}/../{tmp_path.name}/my study.db",
        "sqlite:///link.db",
        "sqlite+pysqlite:///my study.db",
        f"sqlite:///file:{tmp_path}/my%20study.db?mode=ro&uri=true",
        opened,
        RDBStorage("sqlite:///my study.db"),
        optuna.storages.get_storage(opened),
    ]
    assert {storage_file(spelling) for spelling in spellings} == {path.resolve()}
    assert {storage_name(spelling) for spelling in spellings} == {str(path.resolve())}


def test_one_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.journal"
    path.touch()
    monkeypatch.chdir(tmp_path)
    spellings = [
        str(path),
        "study.journal",
        f"journal:///{path}",
        "journal:///study.journal",
        JournalStorage(JournalFileBackend(str(path))),
        JournalStorage(JournalFileBackend("study.journal")),
    ]
    assert {storage_file(spelling) for spelling in spellings} == {path.resolve()}
    assert {storage_name(spelling) for spelling in spellings} == {str(path.resolve())}


def test_one_database(postgresql: str) -> None:
    spellings = [
        postgresql,
        postgresql.replace("postgresql:", "postgresql+psycopg:"),
        RDBStorage(postgresql.replace("postgresql:", "postgresql+psycopg:")),
    ]
    assert {storage_file(spelling) for spelling in spellings} == {None}
    assert {storage_name(spelling) for spelling in spellings} == {postgresql}
    named = storage_name("mysql+pymysql://me:secret@db/nas")
    assert named == "mysql://me:***@db/nas"


def test_one_proxy() -> None:
    pytest.importorskip("grpc")
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        proxy = optuna.storages.GrpcStorageProxy(host="db", port=13000)
    assert storage_name(proxy) == storage_name("grpc://db:13000") == "grpc://db:13000"
    assert storage_file(proxy) is None


def test_memory() -> None:
    assert storage_name(None) == "memory"
    for storage in (None, InMemoryStorage(), RDBStorage("sqlite://")):
        assert storage_file(storage) is None
