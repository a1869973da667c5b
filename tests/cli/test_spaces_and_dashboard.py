"""Figures of ``tftas-optuna spaces``, and what ``tftas-optuna dashboard`` serves."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import optuna_dashboard
import pytest
from click.testing import CliRunner, Result
from conftest_cli import SEARCH
from optuna.exceptions import StorageInternalError

from tftas_optuna.cli import main
from tftas_optuna.metrics.units import short
from tftas_optuna.retrain import timing as training
from tftas_optuna.scoring import timing
from tftas_optuna.spaces import AutoFormerSpace, get_space
from tftas_optuna.storage import load_study
from tftas_optuna.study.accuracy import record_accuracy


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.fixture
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_a_range_goes_from_the_smallest_to_the_largest(
    place: Path, small_space: AutoFormerSpace
) -> None:
    least, most = (
        arch.costs(img_size=224, num_classes=1000)
        for arch in (small_space.smallest(), small_space.largest())
    )
    (row,) = json.loads(call("spaces", "small.yaml", "-f", "json").stdout)
    assert row["n_params"] == [least.n_params, most.n_params]
    assert row["macs"] == [least.macs, most.macs]
    told = call("spaces", "small.yaml").stdout
    assert f"{short(least.n_params)} - {short(most.n_params)}" in told
    assert f"{short(least.macs)} - {short(most.macs)}" in told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0123, "12.3 ms on one thread; 1,000 trials take 12 s"),
        (0.1, "100 ms on one thread; 1,000 trials take 100 s"),
        (0.6, "600 ms on one thread; 1,000 trials take 10 min"),
    ],
)
def test_what_a_score_costs_is_told_in_units_of_people(
    seconds: float, text: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "seconds_per_score", lambda space: {"exact": seconds})
    monkeypatch.setattr(timing, "machine", lambda: "one thread")
    monkeypatch.setattr(training, "time_step", lambda *_: training.StepTime(0.1, 2, 3))
    told = call("spaces", "--check", "small.yaml").stdout
    rows = dict(line.split("  ", 1) for line in told.splitlines())
    assert rows["a score, exact"].strip() == text
    least, most = (
        arch.costs(img_size=224, num_classes=1000)
        for arch in (get_space("small.yaml").smallest(), get_space("small.yaml").largest())
    )
    assert rows["MACs"].strip() == f"{short(least.macs)} - {short(most.macs)}"
    assert rows["params"].strip() == f"{short(least.n_params)} - {short(most.n_params)}"


def test_spaces_of_one_kind_share_a_table() -> None:
    told = call("spaces").stdout
    assert told.count("Search spaces of family") == 2
    assert told.index("family autoformer") < told.index("autoformer-base") < told.index("pit-xs")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was served, and where; it ends at once, as by Ctrl-C."""
    calls: list[dict[str, Any]] = []

    def end(server: WSGIServer) -> None:
        calls[-1]["address"] = server.server_address
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna_dashboard, "wsgi", lambda storage: calls.append({}))
    monkeypatch.setattr(WSGIServer, "serve_forever", end)
    return calls


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_dashboard_says_what_it_serves_and_where(
    place: Path, served: list[dict[str, Any]]
) -> None:
    options = ("--n-trials", "1", "--objectives", "n_params", "-q")
    port = free_port()
    for name, what in (("one", "study one"), ("two", "2 studies")):
        assert call(*SEARCH, *options, "--study-name", name).exit_code == 0
        done = call("dashboard", "--port", str(port))
        assert done.exit_code == 0 and done.stdout == ""
        address = f"http://127.0.0.1:{port}/" + ("dashboard/studies/1" if name == "one" else "")
        assert done.stderr == f"Serving {what} at {address} until Ctrl-C.\n"
    assert served == [{"address": ("127.0.0.1", port)}] * 2
    done = call("dashboard", "--study-name", "two", "--host", "localhost", "--port", str(port))
    assert f"Serving study two at http://localhost:{port}/dashboard/studies/2 " in done.stderr
    assert served[-1]["address"] == ("127.0.0.1", port)


def test_a_study_that_is_not_there_is_not_served(
    place: Path, served: list[dict[str, Any]]
) -> None:
    options = ("--n-trials", "1", "--objectives", "n_params", "-q")
    assert call(*SEARCH, *options).exit_code == 0
    done = call("dashboard", "--study-name", "nope", "--port", str(free_port()))
    assert done.exit_code == 1 and "unknown study 'nope'" in done.stderr
    done = call("dashboard", "--storage", "sqlite:///none.db")
    assert done.exit_code == 1 and "does not exist" in done.stderr
    assert served == [] and not (place / "none.db").exists()


def test_a_study_that_takes_no_notes_is_served(
    place: Path, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise StorageInternalError("database is locked")

    options = ("--n-trials", "2", "--objectives", "n_params", "-q")
    assert call(*SEARCH, *options).exit_code == 0
    monkeypatch.setattr("tftas_optuna.study.notes.write_study_note", locked)
    done = call("dashboard", "--port", str(free_port()))
    assert done.exit_code == 0 and len(served) == 1
    assert done.stderr.startswith(
        "Study small has no new notes: the storage cannot be used: database is locked; another"
    )


def test_what_was_trained_has_a_note_too(place: Path, served: list[dict[str, Any]]) -> None:
    options = ("--n-trials", "8", "--objectives", "n_params", "-q")
    assert call(*SEARCH, *options).exit_code == 0
    study = load_study("sqlite:///tftas.db")
    other = next(t.number for t in study.trials if t not in study.best_trials)
    record_accuracy(study, other, {"top1": 81.25})
    assert call("dashboard", "--port", str(free_port())).exit_code == 0
    noted = study._storage.get_study_system_attrs(study._study_id)
    (trial,) = [one for one in study.trials if one.number == other]
    assert any(f"dashboard:{trial._trial_id}:note" in key for key in noted)
