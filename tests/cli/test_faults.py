"""What goes wrong with storages, files and terminals is one line, whatever was going on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner, Result
from conftest_cli import SMALL
from images import draw_images

from tftas_optuna.cli import main
from tftas_optuna.errors import UnavailableError
from tftas_optuna.search import score_exactly, search
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study, rename_study, sqlite, waiting
from tftas_optuna.study import front

SIZES = {"img_size": 32, "num_classes": 10}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    monkeypatch.setattr(waiting, "_PATIENCE", 0.05)
    monkeypatch.setattr(waiting, "_KEEPING", 0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_space: AutoFormerSpace) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for url in (f"sqlite:///{folder}/study.db", f"journal:///{folder}/study.journal"):
        search(small_space, n_trials=24, population_size=8, n_exact=0, storage=url, **SIZES)
    return folder


@pytest.fixture
def storage(made: Path, tmp_path: Path) -> Path:
    # With what lies in the write-ahead log.
    return Path(shutil.copytree(made, tmp_path / "study")) / "study.db"


@pytest.fixture
def locked(storage: Path) -> Iterator[str]:
    """Another program that holds the study for writing all the time."""
    other = sqlite3.connect(storage, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield f"sqlite:///{storage}"
    other.close()


def run(*args: str) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


def one_line(result: Result) -> str:
    """Return the line that a command failed with."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 1 and len(lines) == 1 and "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)
    return lines[0]


def test_a_study_that_another_program_locks_is_one_line_of_every_command(
    locked: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    images = draw_images(folder / "images", train=2, val=2)
    for command in (
        ["front", "--exact"],
        ["export", "--best"],
        ["run", *SMALL, "--n-trials", "4"],
        ["retrain", "--study", "small", "--data-dir", str(images)],
    ):
        line = one_line(run(*command, "--storage", locked))
        assert "database is locked; another program keeps writing to it" in line
    assert run("front", "--storage", locked).exit_code == 0


def test_a_search_in_a_locked_study_is_one_line(locked: str, small_space: AutoFormerSpace) -> None:
    with pytest.raises(
        UnavailableError, match="database is locked; another program keeps writing"
    ):
        search(small_space, n_trials=4, population_size=8, storage=locked, **SIZES)


def test_nothing_is_scored_for_a_study_that_takes_nothing(
    locked: str, small_space: AutoFormerSpace
) -> None:
    study = load_study(locked)
    told: list[tuple[int, int]] = []
    with pytest.raises(
        UnavailableError, match="database is locked; another program keeps writing"
    ):
        score_exactly(study, callback=lambda *counts: told.append(counts))
    assert not told


def test_exact_scores_wait_for_a_study_that_was_locked_meanwhile(
    storage: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "_KEEPING", 60.0)
    study = load_study(f"sqlite:///{storage}")
    other = sqlite3.connect(storage, isolation_level=None)
    monkeypatch.setattr(waiting.time, "sleep", lambda _: other.execute("ROLLBACK"))

    def lock(done: int, total: int) -> None:
        if done == total:
            other.execute("BEGIN IMMEDIATE")

    with caplog.at_level("INFO", "tftas_optuna"):
        score_exactly(study, callback=lock)
    assert study.user_attrs["exact"]["dss"]
    assert "waiting for the storage, which another program may have locked" in caplog.text
    assert "what was scored waits for it" in caplog.text


def test_a_damaged_database_is_one_line(storage: Path) -> None:
    with storage.open("rb+") as file:
        for page in range(8192, storage.stat().st_size, 4096):
            file.seek(page)
            file.write(b"\xff" * 4096)
    for command in (["front"], ["front", "--exact"], ["studies"]):
        line = one_line(run(*command, "--storage", f"sqlite:///{storage}"))
        assert "malformed; the file is damaged: go on with a copy of it" in line


def test_a_damaged_record_of_a_journal_is_one_line(made: Path, tmp_path: Path) -> None:
    lines = (made / "study.journal").read_bytes().splitlines(keepends=True)
    for damage in (b"{half\n", b'{"op_code": 4, "worker_id": "x"}\n', b"\xff\xfe\n"):
        path = tmp_path / "damaged.journal"
        path.write_bytes(b"".join([*lines[:-9], damage, *lines[-8:]]))
        assert "damaged.journal" in one_line(run("front", "--storage", str(path)))


def test_a_full_disk_behind_stdout_is_one_line(storage: Path) -> None:
    command = [sys.executable, "-m", "tftas_optuna", "front", "--storage", f"sqlite:///{storage}"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr == (
        "Error: No space left on device; make room on the disk, then run the same command again\n"
    )


def test_a_name_that_the_locale_cannot_print_is_one_line(storage: Path) -> None:
    study = load_study(f"sqlite:///{storage}")
    rename_study(study._storage, study.study_name, "漢字")
    command = [sys.executable, "-m", "tftas_optuna", "front", "--storage", f"sqlite:///{storage}"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(command, capture_output=True, text=True, env=env)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "cannot be written in ascii, the encoding of this locale; set LC_ALL=C.UTF-8" in line


def test_a_fault_of_our_own_keeps_its_traceback(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(study: optuna.Study, **kwargs: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(front, "pareto_front", broken)
    result = run("front", "--storage", f"sqlite:///{storage}")
    assert isinstance(result.exception, ValueError)
