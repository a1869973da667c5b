"""What leaves a study is scored exactly, and what is said meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from click.testing import CliRunner, Result

from tftas_optuna import Execution, pareto_front, search, storage
from tftas_optuna.cli import _progress, main
from tftas_optuna.cli._progress import StepDisplay
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study, waiting
from tftas_optuna.storage.waiting import say_if_slow

STORAGE = "sqlite:///tftas.db"


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.fixture
def collapsed(
    small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> int:
    """A study in the working directory without any exact score; the members of its front."""
    monkeypatch.chdir(tmp_path)
    study = search(
        small_space,
        n_trials=16,
        storage=STORAGE,
        n_exact=0,
        population_size=8,
        img_size=32,
        num_classes=10,
        execution=Execution("cpu"),
    )
    return len(pareto_front(study))


def test_the_front_is_scored_exactly_when_asked_and_keeps_it(collapsed: int) -> None:
    before = call("front", "-f", "csv").stdout.splitlines()
    assert "dss" not in before[0].split(",")
    asked = call("front", "--exact", "-f", "csv")
    assert "dss of the front computed exactly: Kendall tau" in asked.stderr
    assert "dss" in asked.stdout.splitlines()[0].split(",")
    assert call("front", "-f", "csv").stdout == asked.stdout
    assert all(len(c.exact) == 1 for c in pareto_front(load_study(STORAGE, None)))


def test_what_is_exported_is_scored_exactly_and_nothing_else(collapsed: int) -> None:
    done = call("export", "--best", "--out", "out", "-f", "yaml")
    (path,) = Path("out").iterdir()
    scores = yaml.safe_load(path.read_text())["scores"]
    assert done.exit_code == 0 and scores["dss"] != scores["dss_collapsed"]
    front = pareto_front(load_study(STORAGE, None))
    assert sum(bool(candidate.exact) for candidate in front) == 1 < collapsed


def test_two_trials_of_one_architecture_have_one_exact_score(collapsed: int) -> None:
    study = load_study(STORAGE, None)
    first = study.get_trials(deepcopy=False)[0]
    study.add_trial(first)
    done = call("export", "--trial", "0", "--trial", "16", "--out", "out", "-f", "yaml")
    assert done.exit_code == 0
    scores = [yaml.safe_load(path.read_text())["scores"]["dss"] for path in Path("out").iterdir()]
    assert len(scores) == 2 and scores[0] == scores[1]


def test_nothing_is_scored_for_a_directory_that_cannot_be(collapsed: int) -> None:
    Path("out").write_text("")
    done = call("export", "--out", "out")
    assert done.exit_code == 1 and "out is in the way: not a directory" in done.stderr
    assert not any(candidate.exact for candidate in pareto_front(load_study(STORAGE, None)))


def test_in_a_pipe_long_work_says_now_and_then_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    with StepDisplay("exact scores", "architectures") as display:
        for done in range(30):
            display(done, 30)
            now[0] += 0.6
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["exact scores: 2/30 architectures", "exact scores: 19/30 architectures"]


def test_what_a_command_waits_for_is_said_once(
    collapsed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*args: Any) -> optuna.Study:
        with say_if_slow("waiting for the storage"):
            threading.Event().wait(1.0)
            return load_study(*args)

    monkeypatch.setattr(storage, "load_study", slowly)
    assert call("front").stderr == ""
    # Longer than a statement takes, of which each may be waited for.
    monkeypatch.setattr(waiting, "_PATIENCE", 0.5)
    for _ in range(2):
        assert call("front").stderr == "waiting for the storage\n"


def test_a_search_of_autoformers_does_not_load_timm() -> None:
    code = (
        "import sys\n"
        "from tftas_optuna import Execution, get_space, search\n"
        "search(get_space('autoformer-tiny'), n_trials=1, img_size=32, n_exact=1,"
        " execution=Execution('cpu'))\n"
        "assert not {'timm', 'torchvision', 'optuna_dashboard'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
