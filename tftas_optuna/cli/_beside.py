"""A dashboard beside a search, in a process of its own.

That process runs this module: it serves until its standard input is closed. The system does that
however the search ends, killed too, so none is left behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import click

from tftas_optuna.cli._serving import DEFAULT_HOST, DEFAULT_PORT, address_of, listen, serve
from tftas_optuna.errors import UnavailableError

if TYPE_CHECKING:
    from typing_extensions import Self

# Seconds that it has to end when it is asked to.
_GRACE = 5.0


class DashboardBeside:
    """Serves a storage while a search writes to it; use as a context manager.

    It prints nothing but its address, and the search waits for none of its requests.

    Args:
        storage: The storage, as it was given.
    """

    def __init__(self, storage: str) -> None:
        self._storage = storage
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        if self._process.poll() is not None:
            click.echo("The dashboard ended before the search did.", err=True)
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def start(self, study_name: str) -> None:
        """Start it, once, on the usual port where that is free, and print the study's address."""
        if self._process is not None:
            return
        from tftas_optuna.storage import open_storage

        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Not as an argument, which others can see: it may hold a password.
            env={**os.environ, "OPTUNA_STORAGE": self._storage},
            # Ctrl-C is for the search, which may take a while to reach a safe place.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        with self._process.stdout as told:
            port = told.readline()
        if not port:
            return
        opened = open_storage(self._storage, create=False)
        address = address_of(DEFAULT_HOST, int(port), opened, study_name)
        click.echo(f"Dashboard, until the search ends: {address}", err=True)


def _follow() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _serve() -> None:
    """Listen, tell the port, and only then load what takes long."""
    try:
        server = listen(DEFAULT_HOST, DEFAULT_PORT)
    except UnavailableError:
        server = listen(DEFAULT_HOST, 0)
    print(server.server_port, flush=True)
    # Nobody reads on.
    sys.stdout = sys.stderr
    from tftas_optuna.storage import open_storage

    serve(server, open_storage(os.environ["OPTUNA_STORAGE"], create=False))


if __name__ == "__main__":
    threading.Thread(target=_follow, daemon=True).start()
    _serve()
