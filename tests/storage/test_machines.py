"""Several machines on one file: protected, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from tftas_optuna.errors import UnavailableError
from tftas_optuna.storage import claim_island, islands, load_study, machines, open_storage
from tftas_optuna.storage.file_locks import lock_path
from tftas_optuna.storage.machines import Holder, this_holder

Search = Callable[..., optuna.Study]

ELSEWHERE = Holder("node-b", 7, "another-boot")
REFUSED = r"a search on node-b \(process 7\) works on .*study\.db, .*share a journal"


@contextmanager
def search_on(
    holder: Holder, storage: str, study_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Keep the number of a search as if another machine had it."""
    opened = open_storage(storage, create=True)
    with monkeypatch.context() as patch:
        patch.setattr(islands, "this_holder", lambda: holder)
        patch.setattr(islands, "check_machine", lambda path: None)
        claim = claim_island(opened, study_name)
    yield
    claim.release()


@pytest.mark.parametrize("study_name", ["small", "another"])
def test_a_sqlite_file_in_use_on_another_machine_is_refused(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study_name: str
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    run(n_trials=8, storage=storage)
    opened = RDBStorage(storage)
    with search_on(ELSEWHERE, storage, study_name, monkeypatch):
        for refused in (
            lambda: run(n_trials=8, storage=storage),
            lambda: run(n_trials=8, storage=opened),
            lambda: load_study(storage),
            lambda: load_study(opened),
        ):
            with pytest.raises(UnavailableError, match=REFUSED):
                refused()
    assert len(run(n_trials=8, storage=storage).trials) == 16


def test_of_two_machines_that_start_at_once_one_sees_the_other(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    opened = open_storage(storage, create=True)
    with search_on(ELSEWHERE, storage, "small", monkeypatch):
        for _ in range(2):
            with pytest.raises(UnavailableError, match=REFUSED):
                claim_island(opened, "small")
        # Whoever was refused has left nothing behind.
        assert not lock_path(tmp_path / "study.db", "small", "1").exists()
    claim = claim_island(opened, "small")
    assert claim.island == 0
    claim.release()


def test_another_container_of_this_machine_is_none(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    container = this_holder()._replace(host="container", pid=1)
    with search_on(container, storage, "small", monkeypatch):
        assert len(run(n_trials=8, storage=storage).trials) == 8


def test_what_a_killed_search_of_another_machine_left_is_no_hindrance(
    run: Search, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    run(n_trials=8, storage=storage)
    lock_path(tmp_path / "study.db", "small", "0").write_text(str(ELSEWHERE))
    study = run(n_trials=8, storage=storage)
    assert {t.system_attrs["tftas_optuna:place"][0] for t in study.trials} == {0}


def test_a_journal_is_shared_with_another_machine(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"journal:///{tmp_path}/study.journal"
    with search_on(ELSEWHERE, storage, "small", monkeypatch):
        study = run(n_trials=8, storage=storage)
    assert {t.system_attrs["tftas_optuna:place"][0] for t in study.trials} == {1}


def test_where_machines_have_no_mark_their_name_is_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines, "_BOOT", tmp_path / "none")
    assert this_holder().machine == this_holder().host
