"""``run --dashboard``: served while a search runs, by nobody after it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest_cli import SEARCH, Run
from programs import Begin, Program

import tftas_optuna
from tftas_optuna.cli import _beside
from tftas_optuna.cli._beside import DashboardBeside

# Where this process has the package from; programs of tests begin without an environment.
HERE = {"PYTHONPATH": str(Path(tftas_optuna.__file__).parents[1])}
ADDRESS = re.compile(r"^Dashboard, until the search ends: (http://127\.0\.0\.1:\d+/\S+)$", re.M)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def until(wanted: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until something holds; tell whether it does."""
    end = time.monotonic() + seconds
    while not (held := wanted()) and time.monotonic() < end:
        time.sleep(0.1)
    return held


def served(program: Program) -> str:
    """Return the address that a program tells, once that answers."""
    assert until(lambda: bool(ADDRESS.search(program.stderr.read_text())))
    (address,) = ADDRESS.findall(program.stderr.read_text())
    assert until(lambda: answers(address)), program.stderr.read_text()
    return str(address)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_dashboard_lives_as_long_as_its_search(begin: Begin, folder: Path, how: str) -> None:
    options = ("--n-trials", "1000000", "--dashboard")
    program = begin("tftas_optuna", folder, *SEARCH, *options, **HERE)
    try:
        address = served(program)
        assert address.endswith("/dashboard/studies/1")
        assert answers(address.replace("/dashboard/", "/api/"))
        getattr(program.process, how)()
        done = program.end()
    finally:
        program.process.kill()
    assert until(lambda: not answers(address), 15)
    # No line of a request, and none of the server.
    assert not re.search(r"GET|HTTP/1|Bottle|Traceback", done.stderr + done.stdout)


@pytest.mark.slow
def test_a_search_ends_with_its_dashboard(tftas: Run, folder: Path) -> None:
    done = tftas(folder, *SEARCH, "--n-trials", "8", "--dashboard", "-q", **HERE)
    assert done.returncode == 0
    (address,) = ADDRESS.findall(done.stderr)
    assert done.stderr.count("\n") == 1 and not answers(address)


def test_nothing_is_served_of_what_is_kept_nowhere(tftas: Run, folder: Path) -> None:
    done = tftas(folder, *SEARCH, "--dashboard", "--storage", "sqlite://")
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr == (
        "Error: storage sqlite:// keeps nothing; give a file, such as sqlite:///tftas.db\n"
    )


def test_a_search_without_a_dashboard_loads_none() -> None:
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from tftas_optuna.cli import main\n"
        f"done = CliRunner().invoke(main, {[*SEARCH, '--n-trials', '2', '-q']!r})\n"
        "assert done.exit_code in (0, 1), done.stderr\n"
        "assert not {'optuna_dashboard', 'bottle', 'sklearn'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_one_that_ends_early_is_told(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(searched)
    monkeypatch.setattr(_beside, "__name__", "no_such_module")
    with DashboardBeside("sqlite:///tftas.db") as beside:
        beside.start("small")
        beside.start("small")
        assert beside._process is not None
        beside._process.wait(30)
    # No address, as nothing listens there.
    assert capsys.readouterr().err == "The dashboard ended before the search did.\n"


@pytest.mark.slow
def test_two_that_start_at_once_have_an_address_each(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(searched)
    with (
        DashboardBeside("sqlite:///tftas.db") as one,
        DashboardBeside("sqlite:///tftas.db") as two,
    ):
        one.start("small")
        two.start("small")
        addresses = ADDRESS.findall(capsys.readouterr().err)
        assert len(set(addresses)) == 2
        assert all(until(partial(answers, address)) for address in addresses)


@pytest.mark.slow
def test_connections_that_ask_nothing_are_not_waited_for(
    searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(searched)
    with DashboardBeside("sqlite:///tftas.db") as beside:
        beside.start("small")
        (address,) = ADDRESS.findall(capsys.readouterr().err)
        port = urllib.parse.urlsplit(address).port
        with socket.create_connection(("127.0.0.1", port)):
            assert until(lambda: answers(address))
