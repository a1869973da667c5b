"""Amounts, help and exit codes of the command line."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tftas_optuna.cli import main
from tftas_optuna.cli._group import Group
from tftas_optuna.cli._interrupts import Interrupts
from tftas_optuna.cli._options import Amount
from tftas_optuna.errors import TftasError, UnavailableError


def call(*args: str) -> Result:
    return CliRunner().invoke(main, list(args), catch_exceptions=False)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("25", 25.0),
        ("0.5", 0.5),
        ("600k", 600e3),
        ("6M", 6e6),
        ("6 m", 6e6),
        ("1.3G", 1.3e9),
        ("1.3b", 1.3e9),
        ("5_867_944", 5_867_944.0),
        ("6e6", 6e6),
        ("2e3K", 2e6),
    ],
)
def test_amounts_are_what_people_mean(text: str, amount: float) -> None:
    assert Amount().convert(text, None, None) == amount


@pytest.mark.parametrize("text", ["0", "-5", "6MB", "M", "1,3G", "", "_6", "nan"])
def test_what_is_no_amount(text: str) -> None:
    done = call("run", "--params-max", text)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert f"{text!r} is no positive amount" in done.stderr


def test_help_lists_the_commands_in_the_order_of_a_first_session() -> None:
    done = call("-h")
    assert done.exit_code == 0 and done.stdout == call("--help").stdout
    commands = done.stdout.split("Commands:")[1].strip().splitlines()
    assert [line.split()[0] for line in commands] == [
        "run",
        "front",
        "export",
        "retrain",
        "evaluate",
        "predict",
        "score",
        "correlate",
        "report",
        "spaces",
        "studies",
        "dashboard",
    ]


def test_the_version_is_that_of_the_package() -> None:
    done = call("--version")
    assert done.exit_code == 0
    assert done.stdout == f"tftas-optuna, version {metadata.version('tftas-optuna')}\n"


def test_a_wrong_option_names_the_help_of_its_command() -> None:
    told = call("export", "--frobnicate").stderr
    assert "No such option" in told and told.endswith("export --help`)\n")
    assert call("nonsense").stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (TftasError("one\nline"), 2, "Error: one line\n"),
        (UnavailableError("not there"), 1, "Error: not there\n"),
        (click.UsageError("not so"), 2, "Error: not so (see `x fail --help`)\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_every_error_has_its_exit_code(error: BaseException, code: int, told: str) -> None:
    @click.command()
    @click.pass_context
    def fail(ctx: click.Context) -> None:
        if isinstance(error, click.UsageError):
            error.ctx = ctx
        raise error

    group = Group("x", help="", commands=[fail])
    done = CliRunner().invoke(group, ["fail"], prog_name="x")
    assert done.exit_code == code and done.stdout == ""
    assert done.stderr.strip() == told.strip()


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back what a failing test leaves."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


BOTH = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)


@BOTH
def test_a_signal_waits_for_a_safe_place(number: int, code: int, handlers: Any) -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        assert interrupts.exit_code == code


@BOTH
def test_a_second_signal_takes_effect_at_once(number: int, code: int, handlers: Any) -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert interrupts.exit_code == code


@BOTH
def test_before_a_search_is_under_way_a_signal_takes_effect_at_once(
    number: int, code: int, handlers: Any
) -> None:
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert interrupts.exit_code == code


def test_a_signal_that_took_effect_is_not_met_again(handlers: Any) -> None:
    with Interrupts() as interrupts:
        interrupts.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()


def test_signals_are_the_callers_again_afterwards(handlers: Any) -> None:
    def handler(number: int, frame: Any) -> None:
        pass

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    with pytest.raises(ZeroDivisionError), Interrupts():
        raise ZeroDivisionError
    for number in (signal.SIGINT, signal.SIGTERM):
        assert signal.getsignal(number) is handler
