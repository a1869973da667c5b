"""A dashboard in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from programs import Begin


@contextlib.contextmanager
def serving(begin: Begin, folder: Path, *options: str) -> Iterator[str]:
    """Serve what is in a working directory; the value is the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = begin("tftas_optuna", folder, "dashboard", "--port", str(port), *options)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/dashboard/", timeout=1)
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert program.process.is_alive(), program.stderr.read_text()
                time.sleep(0.1)
        yield url
    finally:
        program.process.terminate()
        program.end()
