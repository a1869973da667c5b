"""Locks between searches: for whoever may write to the file, and for nobody else."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from processes import CONTEXT, at, becomes_another_user, seen

from tftas_optuna.errors import UnavailableError
from tftas_optuna.search import coordinator
from tftas_optuna.storage import claim_island, file_locks, make_append, open_storage
from tftas_optuna.storage.file_locks import FileLock, LockError, lock_path
from tftas_optuna.study.place import PLACE_KEY

Search = Callable[..., optuna.Study]
NOBODY = 65534


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user of the machine may write to, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="tftas-shared-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def compete(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | BaseStorage], None]:
    """Append from two sides at once, again and again, always behind the last trial."""
    add_trials = optuna.Study.add_trials

    def slowly(study: optuna.Study, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
        time.sleep(0.02)
        add_trials(study, trials)

    def compete(storage: str | BaseStorage) -> None:
        opened = [open_storage(storage, create=True) for _ in range(2)]
        optuna.create_study(storage=opened[0], study_name="s", directions=["minimize"])
        studies = [optuna.load_study(study_name="s", storage=one) for one in opened]
        appends = [make_append(study, one) for study, one in zip(studies, opened, strict=True)]
        monkeypatch.setattr(optuna.Study, "add_trials", slowly)
        with ThreadPoolExecutor(2) as pool:
            for last in range(-1, 27, 3):
                jobs = [
                    pool.submit(append, generation(side, last), last)
                    for side, append in enumerate(appends)
                ]
                assert {job.result() for job in jobs} == {None, last + 3}
        assert [trial.number for trial in studies[0].get_trials()] == list(range(30))

    return compete


def generation(side: int, after: int) -> list[optuna.trial.FrozenTrial]:
    places = [[side, after + 1, position] for position in range(3)]
    return [optuna.create_trial(value=0.0, system_attrs={PLACE_KEY: place}) for place in places]


def test_of_two_at_the_same_place_one_is_first(
    compete: Callable[[str | BaseStorage], None], storage: str | BaseStorage
) -> None:
    compete(storage)


def test_of_two_at_the_same_place_one_is_first_in_an_unknown_schema(
    compete: Callable[[str | BaseStorage], None], unknown_schema: str
) -> None:
    compete(unknown_schema)


def test_the_number_of_a_search_is_its_alone(storage: str | BaseStorage) -> None:
    opened = open_storage(storage, create=True)
    first, second = claim_island(opened, "s"), claim_island(opened, "s")
    other = claim_island(opened, "another study")
    assert (first.island, second.island, other.island) == (0, 1, 0)
    first.release()
    again = claim_island(open_storage(storage, create=True), "s")
    assert again.island == 0
    for claim in (again, second, other):
        claim.renew()
        claim.release()


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o600])
@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_locks_have_the_permissions_of_the_storage(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, umask: int
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    path = tmp_path / "study.journal"
    path.touch()
    path.chmod(mode)
    before = os.umask(umask)
    modes = []
    try:
        for purpose in ("0", "write"):
            lock = lock_path(path, "small", purpose)
            with FileLock(lock, path, timeout=0):
                modes.append(stat.S_IMODE(lock.stat().st_mode))
        run(n_trials=2, storage=str(path))
    finally:
        os.umask(before)
    assert modes == [mode, mode]
    assert list(temporary.glob("*tftas*")) == []


def as_nobody(path: Path) -> None:
    # Python and the packages may be where nobody else can read: have them loaded before.
    open_storage(f"sqlite:///{path.parent}/another.db", create=True)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    opened = open_storage(f"sqlite:///{path}", create=True)
    claim = claim_island(opened, "s")
    assert claim.island == 1
    claim.release()


@becomes_another_user
def test_another_user_who_may_write_to_the_storage_may_lock(shared: Path) -> None:
    # The server that starts processes would keep the umask for all of them.
    ensure_running()
    before = os.umask(0o077)
    try:
        path = shared / "study.db"
        path.touch()
        path.chmod(0o666)
        opened = open_storage(f"sqlite:///{path}", create=True)
        claim = claim_island(opened, "s")
        process = CONTEXT.Process(target=as_nobody, args=(path,))
        process.start()
        process.join(30)
        claim.release()
        assert process.exitcode == 0
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root becomes another user")
def test_locks_that_root_makes_belong_to_the_owner_of_the_storage(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.touch()
    os.chown(path, NOBODY, NOBODY)
    with FileLock(lock_path(path, "s", "0"), path, timeout=0):
        made = lock_path(path, "s", "0").stat()
    assert (made.st_uid, made.st_gid) == (NOBODY, NOBODY)


def test_a_link_in_the_place_of_a_lock_is_not_followed(run: Search, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    lock_path(tmp_path / "study.db", "small", "0").symlink_to(victim)
    with pytest.raises(UnavailableError, match="is a symbolic link, which is not followed; rem"):
        run(n_trials=2, storage=storage)
    assert victim.read_text() == "precious"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["precious", "two words\n", "host 1 machine\nand more\n"])
@pytest.mark.parametrize("purpose", ["0", "write"])
def test_a_file_that_is_no_lock_is_not_written_to(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, purpose: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(coordinator, "_STORAGE_PATIENCE", 0.1)
    other = lock_path(tmp_path / "study.journal", "small", purpose)
    other.write_text(text)
    with pytest.raises(UnavailableError, match="is in the way: it is no lock of tftas-optuna; m"):
        run(n_trials=2, storage=f"journal:///{tmp_path}/study.journal")
    assert other.read_text() == text


def test_no_locks_are_left(run: Search, storage: str | BaseStorage, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    def locks() -> list[Path]:
        return list(tmp_path.glob("*.lock"))

    run(n_trials=8, storage=storage)
    assert locks() == []
    with pytest.raises(KeyboardInterrupt):
        run(n_trials=8, storage=storage, callback=at(4, stop))
    assert locks() == []


def test_a_lock_of_a_killed_search_is_taken_and_removed(run: Search, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    run(n_trials=2, storage=storage)
    left = lock_path(tmp_path / "study.db", "small", "0")
    left.write_text("host 1 machine")
    run(n_trials=2, storage=storage)
    assert not left.exists()


def test_of_many_that_wait_for_a_lock_that_is_removed_one_has_it(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.touch()
    lock, counter = lock_path(path, "s", "write"), tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(50):
            with FileLock(lock, path, timeout=60):
                counter.write_text(str(int(counter.read_text()) + 1))

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(count) for _ in range(4)]:
            job.result()
    assert counter.read_text() == "200"
    assert not lock.exists()


def test_where_no_locks_can_be_made_nothing_is_begun(run: Search, tmp_path: Path) -> None:
    lock_path(tmp_path / "study.db", "small", "0").mkdir()
    with pytest.raises(UnavailableError, match=r"lock .* cannot be opened .*; make .* writable"):
        run(n_trials=2, storage=f"sqlite:///{tmp_path}/study.db")


def test_a_file_system_that_refuses_locks_is_told(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(file_locks, "lock", refuse)
    with pytest.raises(UnavailableError, match=r"takes no locks \(No locks available\); keep"):
        run(n_trials=2, storage=f"journal:///{tmp_path}/study.journal")


def test_a_lock_that_is_refused_during_a_search_loses_nothing(
    run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(coordinator, "_STORAGE_PATIENCE", 0.3)
    storage = f"journal:///{tmp_path}/study.journal"
    real = file_locks.lock

    def refuse(fd: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with pytest.raises(UnavailableError, match="takes no locks .*scored trials are safe in"):
        run(
            storage=storage,
            callback=at(8, lambda: monkeypatch.setattr(file_locks, "lock", refuse)),
        )
    monkeypatch.setattr(file_locks, "lock", real)
    study = run(n_trials=1, storage=storage)
    study = run(n_trials=40 - len(study.trials), storage=storage)
    assert seen(study) == seen(run(n_trials=40))


def test_a_lock_that_is_held_all_the_time_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.touch()
    lock = lock_path(path, "s", "write")
    with FileLock(lock, path, timeout=0), pytest.raises(TimeoutError, match="another search"):
        FileLock(lock, path, timeout=0.05).acquire()
    with pytest.raises(LockError, match="cannot be opened"):
        FileLock(tmp_path / "no" / "lock", path, timeout=0).acquire()
