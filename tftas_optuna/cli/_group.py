"""The command group: one line for every error, and the right exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import traceback
from importlib import metadata
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.errors import InputFileError, TftasError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Echo(logging.Handler):
    """Prints log messages on stderr.

    A record that is marked ``once`` is printed once per command.
    """

    def __init__(self) -> None:
        super().__init__()
        self.printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "once", False):
            if record.getMessage() in self.printed:
                return
            self.printed.add(record.getMessage())
        # click looks up stderr every time: a live display may have replaced it.
        click.echo(self.format(record), err=True)


_ECHO = _Echo()


class Group(click.Group):
    """Lists commands in the given order, and turns our errors into exit codes."""

    def __init__(self, name: str, *, help: str, commands: Sequence[click.Command]) -> None:
        super().__init__(
            name,
            help=help,
            commands=commands,
            no_args_is_help=False,
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        self._order = [command.name or "" for command in commands]
        click.version_option(metadata.version("tftas-optuna"), prog_name=name)(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a first session."""
        return self._order

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse a command line; if it is empty, print the help and exit."""
        ctx.meta["words"] = tuple(args)
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, print its error on one line, and exit."""
        kwargs["standalone_mode"] = False
        logger = logging.getLogger("tftas_optuna")
        _ECHO.printed.clear()
        logger.addHandler(_ECHO)
        logger.setLevel(logging.INFO)
        try:
            sys.exit(super().main(*args, **kwargs) or 0)
        except click.exceptions.Abort:
            sys.exit(130)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else self.name
            _complain(f"{error.format_message()} (see `{command} --help`)")
            sys.exit(error.exit_code)
        except click.ClickException as error:
            _complain(error.format_message())
            sys.exit(error.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, turning our errors into click's."""
        try:
            result = super().invoke(ctx)
            # Flush while a full disk can still be reported.
            sys.stdout.flush()
            return result
        except TftasError as error:
            if ctx.meta.get("verbose"):
                traceback.print_exc()
            failed = isinstance(error, UnavailableError) and not isinstance(error, InputFileError)
            raise (click.ClickException if failed else _BadInput)(str(error)) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            # Imported late because it loads SQLAlchemy.
            from tftas_optuna.storage import told

            line = told(error)
            if line is None:
                raise
            if ctx.meta.get("verbose"):
                traceback.print_exc()
            _drop_unwritten()
            raise click.ClickException(line) from error


def _drop_unwritten() -> None:
    """Keep Python from flushing stdout once more when it exits."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Seconds. torchrun checks its processes ten times a second.
_PATIENCE = 5.0


class _BadInput(click.ClickException):
    exit_code = 2


def _complain(message: str) -> None:
    message = " ".join(message.split())
    rank = os.environ.get("LOCAL_RANK", "0")
    if rank != "0":
        # Under torchrun all processes of a machine mostly fail alike. The first one prints the
        # error, and torchrun ends the others while they wait here.
        time.sleep(_PATIENCE)
        message = f"process {rank}: {message}"
    click.echo(f"Error: {message}", err=True)
