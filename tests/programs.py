"""Programs in processes of their own, which have the imports behind them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import torch
from processes import CONTEXT


class Program(NamedTuple):
    """One that was begun."""

    args: Sequence[str]
    process: BaseProcess
    stdout: Path
    stderr: Path

    def end(self, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Wait until it has ended."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"{self.args} did not end")
        out, errors = (path.read_text(encoding="utf-8") for path in (self.stdout, self.stderr))
        return subprocess.CompletedProcess(self.args, self.process.exitcode, out, errors)


Begin = Callable[..., Program]


def end_together(begin: Begin, cwd: Path, *args: str) -> list[subprocess.CompletedProcess[str]]:
    """Run a command in two processes that find each other by what torchrun tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    programs = [
        begin("tftas_optuna", cwd, *args, RANK=rank, LOCAL_RANK=rank, **world)
        for rank in ("0", "1")
    ]
    return [program.end() for program in programs]


def begin(
    streams: Path, what: str | Path, cwd: Path, args: Sequence[str], env: dict[str, str]
) -> Program:
    """Begin a module, by its name, or a script, by its path.

    Args:
        streams: An empty directory for what it prints.
        what: The module or the script.
        cwd: Where it runs.
        args: Its arguments.
        env: Its environment, beside a path and a home.
    """
    stdout, stderr = streams / "stdout", streams / "stderr"
    for path in (stdout, stderr):
        path.touch()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), **env}
    process = CONTEXT.Process(target=_main, args=(what, cwd, args, environment, [stdout, stderr]))
    process.start()
    return Program(args, process, stdout, stderr)


def _main(
    what: str | Path, cwd: Path, args: Sequence[str], env: dict[str, str], streams: list[Path]
) -> None:
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    # Its own processes start in the usual way, not from one more server.
    multiprocessing.set_start_method(None, force=True)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = env.get("PYTHONPATH", "").split(os.pathsep)
    torch.set_num_threads(1)
    sys.argv[1:] = args
    if isinstance(what, Path):
        # As Python does, which runpy leaves to the caller.
        sys.path.insert(0, str(what.parent))
        runpy.run_path(str(what), run_name="__main__")
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)
