"""What was rescued is merged once, by one search, and nothing that somebody else prepared."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest

from tftas_optuna.storage import make_append, open_storage, storage_name
from tftas_optuna.storage import rescue as module
from tftas_optuna.storage.rescue import merge_rescued, rescue
from tftas_optuna.study.place import PLACE_KEY, Place, place_of
from tftas_optuna.study.record import read_settings
from tftas_optuna.study.settings import StudySettings

Search = Callable[..., optuna.Study]
NOBODY = 65534


class Rescued:
    """A study of four trials on a SQLite file, and a rescue file of another search."""

    def __init__(self, run: Search, folder: Path) -> None:
        self.storage = f"sqlite:///{folder}/study.db"
        study = run(n_trials=4, storage=self.storage)
        self.settings: StudySettings = read_settings(study)
        decode = self.settings.space.decode
        tried = {decode(trial.params) for trial in study.trials}
        others = run(n_trials=8, seed=1).trials
        trials = [trial for trial in others if decode(trial.params) not in tried]
        for trial in trials:
            place = place_of(trial)
            assert place is not None
            trial.system_attrs[PLACE_KEY] = [1, *place[1:]]
        self.trials = trials
        self.path = self.rescue()
        self.text = self.path.read_bytes()

    def rescue(self) -> Path:
        return rescue(self.trials, "small", storage_name(self.storage), self.settings)

    def merge(self) -> None:
        opened = open_storage(self.storage, create=True)
        study = optuna.load_study(study_name="small", storage=opened)
        merge_rescued(study, storage_name(self.storage), self.settings, make_append(study, opened))

    def n_merged(self) -> int:
        study = optuna.load_study(study_name="small", storage=self.storage)
        return sum(trial.system_attrs[PLACE_KEY][0] == 1 for trial in study.trials)


@pytest.fixture
def rescued(run: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rescued:
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return Rescued(run, tmp_path)


def test_two_searches_that_begin_at_once_merge_a_file_once(
    rescued: Rescued, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = module.stored_places

    def slowly(study: optuna.Study) -> set[Place]:
        places = real(study)
        time.sleep(0.3)
        return places

    monkeypatch.setattr(module, "stored_places", slowly)
    with ThreadPoolExecutor(2) as pool, caplog.at_level(logging.WARNING, "tftas_optuna"):
        for job in [pool.submit(rescued.merge) for _ in range(2)]:
            job.result()
    assert rescued.n_merged() == len(rescued.trials)
    assert caplog.text.count("merged") == 1
    assert list(Path.cwd().iterdir()) == []


def test_a_file_is_merged_once_where_the_working_directory_is_the_temporary_one(
    rescued: Rescued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(Path.cwd()))
    rescued.merge()
    assert rescued.n_merged() == len(rescued.trials)
    assert list(Path.cwd().iterdir()) == []


def test_a_file_of_an_earlier_release_is_merged(rescued: Rescued) -> None:
    name = rescued.path.name.rpartition("-")[0]
    rescued.path.rename(rescued.path.with_name(f"{name}-4711.journal"))
    rescued.merge()
    assert rescued.n_merged() == len(rescued.trials)
    assert list(Path.cwd().iterdir()) == []


def test_one_process_that_rescues_twice_keeps_both(rescued: Rescued) -> None:
    assert rescued.rescue() != rescued.path
    assert rescued.path.read_bytes() == rescued.text


@pytest.mark.parametrize("kind", ["directory", "link", "text", "damaged", "empty"])
def test_what_is_no_rescued_file_is_left_alone_with_a_word(
    rescued: Rescued, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, elsewhere = rescued.path, Path.cwd() / "elsewhere.journal"
    path.rename(elsewhere)
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(elsewhere)
    else:
        damaged = rescued.text[:200] + b"\n" + rescued.text[200:]
        path.write_bytes({"text": b"precious", "damaged": damaged, "empty": b""}[kind])
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        rescued.merge()
    assert f"{path} is not merged: " in caplog.text
    assert rescued.n_merged() == 0
    assert elsewhere.read_bytes() == rescued.text
    assert sorted(Path.cwd().iterdir()) == sorted([path, elsewhere])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("mode", "merged"), [(0o1777, False), (0o777, False), (0o775, True)])
def test_what_somebody_else_prepared_where_everybody_may_write_is_not_merged(
    rescued: Rescued, mode: int, merged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(tempfile.gettempdir())
    folder.chmod(mode)
    path = rescued.path.rename(folder / rescued.path.name)
    os.chown(path, NOBODY, NOBODY)
    with caplog.at_level(logging.WARNING, "tftas_optuna"):
        rescued.merge()
    assert rescued.n_merged() == (len(rescued.trials) if merged else 0)
    assert ("it belongs to another user" in caplog.text, path.exists()) == (not merged, not merged)
