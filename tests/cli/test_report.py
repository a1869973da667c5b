from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from random_studies import random_study

from tftas_optuna import pareto_front
from tftas_optuna.cli import main
from tftas_optuna.report.commands import record_command
from tftas_optuna.spaces import AutoFormerSpace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments])


def test_the_file_is_named_after_the_study(folder: Path, small_space: AutoFormerSpace) -> None:
    random_study(small_space, 8, name="mine", storage="sqlite:///tftas.db")
    done = report()
    assert done.exit_code == 0, done.output
    assert done.stdout == "mine.html\n" and (folder / "mine.html").is_file()


def test_a_name_leads_to_no_other_directory(folder: Path, small_space: AutoFormerSpace) -> None:
    random_study(small_space, 0, name="../../<script>", storage="sqlite:///tftas.db")
    done = report()
    assert done.stdout == "script.html\n", done.output
    assert sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".html") == [
        "script.html"
    ]


@pytest.mark.slow
def test_picks(folder: Path, small_space: AutoFormerSpace) -> None:
    objectives = ("dss", "n_params", "activations")
    study = random_study(small_space, 20, objectives=objectives, storage="sqlite:///tftas.db")
    front = pareto_front(study)
    best = max(front, key=lambda candidate: candidate.values["dss"])

    def picked(*arguments: str) -> list[int]:
        done = report(*arguments, "--out", "r.html")
        assert done.exit_code == 0, done.output
        text = (folder / "r.html").read_text()
        (line,) = re.findall(r"<pre>(tftas-optuna export .*)</pre>", text)
        return [int(number) for number in re.findall(r"--trial=(\d+)", line)]

    spread = picked()
    assert len(spread) == 6 and spread[0] == front[0].trial and spread[-1] == front[-1].trial
    assert picked("--trial", "3", "--trial", "1") == [3, 1]
    assert picked("--best") == [best.trial]
    assert picked("--params-max", str(front[1].n_params)) == [c.trial for c in front[:2]]
    assert report("--best", "--knee").exit_code == 2
    assert "budgets do not apply" in report("--trial", "1", "--params-max", "1M").output
    assert report("--trial", "99").exit_code == 1


def test_the_commands_of_a_report_are_some(folder: Path, small_space: AutoFormerSpace) -> None:
    study = random_study(
        small_space,
        12,
        name="-x y'z",
        storage="sqlite:///other.db",
        bounds={"macs": (1e5, 2.5e6)},
    )
    words = ("run", "--storage", "sqlite:///other.db", "--study-name", study.study_name)
    record_command(study, words, "sqlite:///other.db")
    assert report("--storage", "sqlite:///other.db", "--out", "r.html").exit_code == 0
    lines = re.findall(r"<pre>(tftas-optuna .*)</pre>", (folder / "r.html").read_text())
    assert [shlex.split(html.unescape(line))[1] for line in lines] == [
        "run",
        "report",
        "export",
        "retrain",
    ]
    for line in lines:
        with click.Context(main) as group:
            words = shlex.split(html.unescape(line))[1:]
            name, command, rest = main.resolve_command(group, words)
            assert name is not None and command is not None
            if name == "retrain":
                rest[rest.index("DIR")] = str(folder)
            context = command.make_context(name, rest, parent=group)
        assert context.params["study_name"] == "-x y'z"
        assert context.params["storage"] == "sqlite:///other.db"
