"""Names and amounts as people really type them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

from tftas_optuna.cli import _progress, _training, main
from tftas_optuna.cli._progress import ProgressDisplay
from tftas_optuna.cli._training import TrainingDisplay
from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.spaces import AutoFormerSpace

SIZES = ("--img-size", "32", "--num-classes", "10")
NAMES = ("tiny[/v2]", "[bold]x[/bold]", ":smile: {x}")


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


def test_a_name_is_shown_as_it_is(
    small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = " ".join(NAMES)
    data = {**small_space.to_dict(), "name": name}
    Path("small.yaml").write_text(yaml.safe_dump(data))
    command = ("run", "--space", "small.yaml", *SIZES, "--n-trials", "4")
    done = call(*command, "--population-size", "2")
    assert done.exit_code == 0, done.stderr
    assert f"Pareto front of {name}: " in done.stdout
    assert f"{name}, seed 0" in done.stderr or "4/4 trials" in done.stderr
    assert f"Pareto front of {name}: " in call("front").stdout
    assert name in call("spaces", "small.yaml").stdout
    assert f"{name}, family autoformer" in call("spaces", "--check", "small.yaml").stdout


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_a_name_as_it_is(
    name: str, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def console(**how: object) -> Console:
        return Console(force_terminal=terminal, width=150, color_system=None, **how)  # type: ignore[arg-type]

    for module in (_progress, _training):
        monkeypatch.setattr(module, "Console", console)
    with ProgressDisplay(name, 10, quiet=False) as display:
        display.update(SearchProgress(0, 10, 0, 0, 1.0, 1.0, 0, 0.0))
    with TrainingDisplay(name, 10, quiet=False):
        pass
    shown = capsys.readouterr().err
    assert shown.count(name) >= (2 if terminal else 1)
    assert "[dim]" not in shown and "[bold]" not in shown.replace(name, "")


def test_the_command_alone_prints_its_help() -> None:
    done = call()
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr == call("--help").stdout and done.stderr.count("\n") > 10


@pytest.mark.parametrize("amount", ["1e999", "1e308G"])
def test_no_amount_is_infinite(amount: str) -> None:
    done = call("run", "--params-max", amount)
    assert done.exit_code == 2 and f"'{amount}' is no positive amount" in done.stderr


def test_a_space_whose_name_cannot_name_files_is_exported_under_a_plain_one(
    small_space: AutoFormerSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {**small_space.to_dict(), "name": "../../x"}
    Path("small.yaml").write_text(yaml.safe_dump(data))
    done = call("run", "--space", "small.yaml", *SIZES, "--n-trials", "4", "--out", "found")
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["found"]
    assert all(path.name.startswith("x-trial") for path in Path("found").iterdir())


def test_help_lists_every_metric() -> None:
    text = " ".join(call("run", "--help").stdout.split())
    for name in ("dss", "n_params", "macs", "reference_macs", "activations", "latency"):
        assert name in text
    assert "{metrics}" not in text
