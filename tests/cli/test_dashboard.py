from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest_cli import SEARCH, Run
from dashboards import serving
from programs import Begin


@pytest.fixture(scope="module")
def address(searched: Path, begin: Begin) -> Iterator[str]:
    with serving(begin, searched) as url:
        yield url


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


def test_the_dashboard_shows_names_front_and_constraints(address: str) -> None:
    (study,) = get(f"{address}/api/studies")["study_summaries"]
    assert study["study_name"] == "small"
    assert study["directions"] == ["maximize", "minimize"]
    detail = get(f"{address}/api/studies/{study['study_id']}?after=0")
    assert detail["objective_names"] == ["dss_collapsed", "n_params"]
    assert len(detail["trials"]) == 24
    constraints = [trial["constraints"] for trial in detail["trials"]]
    assert all(len(values) == 1 for values in constraints)
    assert all(values[0] <= 0 for values in constraints)
    for trial in detail["trials"]:
        assert trial["constraints"][0] == pytest.approx(trial["values"][1] / 150e3 - 1)
    attributes = {item["key"]: item["value"] for item in study["user_attrs"]}
    assert attributes["space"] == "small"


def test_the_notes_are_shown_for_the_study_and_for_its_front(address: str) -> None:
    (study,) = get(f"{address}/api/studies")["study_summaries"]
    detail = get(f"{address}/api/studies/{study['study_id']}?after=0")
    assert "**24 trials**" in detail["note"]["body"]
    assert "tftas-optuna front --study-name small" in detail["note"]["body"]
    noted = [trial for trial in detail["trials"] if trial["note"]["body"]]
    assert 0 < len(noted) <= 20
    assert all("| dss |" in trial["note"]["body"] for trial in noted)


@pytest.mark.parametrize("options", [(), ("-v",)])
def test_requests_are_logged_only_when_asked_for(
    options: tuple[str, ...], searched: Path, begin: Begin
) -> None:
    programs = []

    def kept(*args: Any) -> Any:
        programs.append(begin(*args))
        return programs[-1]

    with serving(kept, searched, *options) as url:
        get(f"{url}/api/studies")
        # A request is logged after it was answered, and on a busy machine some time after.
        deadline = time.monotonic() + 20
        while options and time.monotonic() < deadline:
            if "GET /api/studies" in programs[0].stderr.read_text():
                break
            time.sleep(0.05)
    told = programs[0].stderr.read_text()
    assert ("GET /api/studies" in told) == bool(options)
    assert "Serving study small at http://127.0.0.1:" in told


def test_a_taken_port_is_refused(tftas: Run, searched: Path, address: str) -> None:
    done = tftas(searched, "dashboard", "--port", address.rsplit(":", 1)[1])
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cannot listen on 127.0.0.1:")


def test_connections_that_ask_nothing_are_not_waited_for(address: str) -> None:
    port = urllib.parse.urlsplit(address).port
    with socket.create_connection(("127.0.0.1", port)):
        assert get(f"{address}/api/studies")["study_summaries"]


def test_a_search_loads_no_dashboard(folder: Path) -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from tftas_optuna.cli import main\n"
        f"done = CliRunner().invoke(main, {[*SEARCH, '--n-trials', '2', '-q']!r})\n"
        "assert done.exit_code == 0, done.stderr\n"
        "assert not {'optuna_dashboard', 'bottle', 'sklearn'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
