"""What leaves a study is scored exactly, and what is said meanwhile."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
import timm
import yaml
from click.testing import CliRunner, Result

from tftas_optuna import Execution, pareto_front, search, storage
from tftas_optuna.cli import _progress, main
from tftas_optuna.cli._progress import StepDisplay
from tftas_optuna.export import export_candidates
from tftas_optuna.retrain.network import resolve_architecture
from tftas_optuna.spaces import AutoFormerSpace
from tftas_optuna.storage import load_study, waiting
from tftas_optuna.storage.waiting import say_if_slow
from tftas_optuna.study import selection

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


def test_of_many_that_are_exported_some_are_scored_exactly(
    collapsed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "SHOWN", 3)
    done = call("export", "--out", "out", "-f", "yaml")
    assert f"dss is exact in 3 of {collapsed}, approximate in the others" in done.stderr
    documents = [yaml.safe_load(path.read_text()) for path in Path("out").iterdir()]
    assert sum("dss" in document["scores"] for document in documents) == 3
    # As many as the budget leaves, not those of the whole front.
    monkeypatch.setattr(selection, "SHOWN", collapsed - 1)
    call("export", "--out", "more", "-f", "yaml", "--top", str(collapsed - 1))
    some = [yaml.safe_load(path.read_text())["scores"] for path in Path("more").iterdir()]
    assert len(some) == collapsed - 1 and all("dss" in scores for scores in some)
    whole = call("export", "--out", "out", "-f", "yaml", "--exact")
    assert whole.exit_code == 0 and "approximate" not in whole.stderr
    documents = [yaml.safe_load(path.read_text()) for path in Path("out").iterdir()]
    assert len(documents) == collapsed
    assert all("dss" in one["scores"] and "approximate" not in one for one in documents)


def test_exact_scores_are_asked_for_where_there_are_some(collapsed: int) -> None:
    done = call("export", "--exact", "-f", "onnx")
    assert done.exit_code == 2 and "--exact needs a format that holds scores" in done.stderr
    call("export", "--best", "--out", "out", "-f", "yaml")
    (path,) = Path("out").iterdir()
    done = call("export", str(path), "--exact")
    assert done.exit_code == 2 and "leave out the options of a study" in done.stderr


def test_a_file_without_an_exact_score_is_used_like_any_other(collapsed: int) -> None:
    candidate = pareto_front(load_study(STORAGE, None))[0]
    (path,) = export_candidates(load_study(STORAGE, None), candidate, "out", formats="yaml")
    score = call("score", str(path), "-f", "json")
    (row,) = json.loads(score.stdout)
    call("front", "--exact")
    exact = pareto_front(load_study(STORAGE, None))[0].exact["dss"]
    assert row["dss_collapsed"] == pytest.approx(candidate.values["dss"], rel=1e-5)
    assert row["dss"] == pytest.approx(exact, rel=1e-5)
    assert resolve_architecture(str(path)) == candidate.architecture
    assert timm.create_model("tftas_autoformer", arch=str(path)).architecture == (
        candidate.architecture
    )


def test_the_front_says_which_members_are_exact(collapsed: int) -> None:
    lines = call("front").stdout.splitlines()
    assert f"dss of none of {collapsed} members computed exactly." in lines
    # The last in the table, so that the first row has no exact value.
    last = json.loads(call("front", "-f", "json").stdout)[-1]["trial"]
    call("export", "--trial", str(last), "--out", "out", "-f", "yaml")
    shown = call("front", "-f", "csv")
    assert f"dss of 1 of {collapsed} members computed exactly" in shown.stderr
    rows = list(csv.DictReader(shown.stdout.splitlines()))
    assert list(rows[0])[:5] == ["trial", "dss_collapsed", "dss", "n_params", "macs"]
    assert [bool(row["dss"]) for row in rows] == [False] * (collapsed - 1) + [True]
    plain = json.loads(call("front", "-f", "json").stdout)
    assert plain[0]["dss"] is None and plain[-1]["dss"] == float(rows[-1]["dss"])


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


def test_a_search_of_autoformers_does_not_load_what_it_does_not_use() -> None:
    code = (
        "import sys\n"
        "from tftas_optuna import Execution, get_space, search\n"
        "search(get_space('autoformer-tiny'), n_trials=1, img_size=32, n_exact=1,"
        " execution=Execution('cpu'))\n"
        "unused = {'timm', 'torchvision', 'optuna_dashboard', 'plotly'}\n"
        "assert not unused & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
